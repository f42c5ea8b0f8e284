"""Health check of HDFS from the NameNode's own figures: `probe.py namenode` or `probe.py datanode`.

The NameNode is healthy once it is active, be it in safe mode; the DataNode once safe mode is off and the NameNode counts it.
"""

import json
import socket
import sys
import urllib.request


def bean(name: str) -> dict[str, object]:
    """One JMX bean of the NameNode."""
    url = f"http://namenode:9870/jmx?qry=Hadoop:service=NameNode,name={name}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return dict(json.load(answer)["beans"][0])


def main(part: str) -> None:
    """Ask once."""
    if bean("NameNodeStatus")["State"] != "active":
        sys.exit("the NameNode is not active")
    if part == "namenode":
        return
    info = bean("NameNodeInfo")
    if info["Safemode"]:
        sys.exit(str(info["Safemode"]))
    if socket.gethostname() not in str(info["LiveNodes"]):
        sys.exit(f"{socket.gethostname()} has not registered")


if __name__ == "__main__":
    main(sys.argv[1])
