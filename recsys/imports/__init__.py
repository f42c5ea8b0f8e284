"""Anybody's data: in go tables of who listened to what; out come a catalogue that has grown, and ``logs/date=D`` as nights read them."""
