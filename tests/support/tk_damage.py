"""What can become of a database file under the feet of those who have it open."""

_GARBAGE = b"This is no database. " * 4096


def delete(path):
    path.unlink()


def delete_with_logs(path):
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def overwrite(path):
    path.write_bytes(_GARBAGE)


def replace(path):
    stranger = path.with_suffix(".new")
    stranger.write_bytes(_GARBAGE)
    stranger.replace(path)


def empty(path):
    path.write_bytes(b"")
