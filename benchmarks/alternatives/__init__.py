"""What an engineer would write with well-known libraries instead: the same work, as that library's own guide does it."""
