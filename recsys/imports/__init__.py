"""Anybody's data: tables of who listened to what go in; a grown catalogue and ``logs/date=D`` come out."""
