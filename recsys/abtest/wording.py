"""Numbers in sentences: a count and a noun in, the words that go together out."""


def counted(number: int, one: str, many: str = "") -> str:
    """A count with what is counted, which may be a whole phrase; ``many`` is ``one`` with an s where it is not given.

    >>> counted(1, "user"), counted(2000, "user"), counted(0, "user")
    ('1 user', '2,000 users', '0 users')
    >>> counted(1, "record was dropped", "records were dropped")
    '1 record was dropped'
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
