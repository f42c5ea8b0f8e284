//go:build tools

// Package tools names the program that install.sh builds: Docker Compose v2, as a module of the Go proxy.
package tools

import _ "github.com/docker/compose/v2/cmd"
