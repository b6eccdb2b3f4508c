"""Every fault run in full, one after another: ``python -m tests.faults``; each file can be run by itself."""

from tests.faults import (
    bombs,
    connections,
    disk_errors,
    disk_full,
    dripping,
    file_kills,
    fuzz,
    http_kills,
    kafka_chaos,
    kafka_kills,
    soak,
    stopping,
    worst_bodies,
)

if __name__ == "__main__":
    for part in (
        http_kills,
        file_kills,
        kafka_kills,
        kafka_chaos,
        disk_full,
        disk_errors,
        connections,
        dripping,
        bombs,
        worst_bodies,
        stopping,
        fuzz,
        soak,
    ):
        part.main()
