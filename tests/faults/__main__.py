"""Every fault run in full, one after another: ``python -m tests.faults``; each file can be run by itself."""

from tests.faults import bombs, connections, disk_full, file_kills, http_kills

if __name__ == "__main__":
    for part in (http_kills, file_kills, disk_full, connections, bombs):
        part.main()
