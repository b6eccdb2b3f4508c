#!/bin/sh
# Put the kernels of the image where numba looks, and run kldrift in place of this shell.
# Numba does not read a cache that it cannot write to, and the image may be read-only, so they are copied (1 MB, in memory).
# If that is not possible they are compiled, which takes ten seconds.

if [ "$NUMBA_CPU_NAME" = native ]; then
    unset NUMBA_CPU_NAME # kernels for this CPU only, compiled here; keep KLDRIFT_CACHE_DIR in a volume
elif ! { mkdir -p "$KLDRIFT_CACHE_DIR" && cp -R "$KLDRIFT_KERNELS/." "$KLDRIFT_CACHE_DIR"; }; then
    echo "kernels are compiled at each start: expected KLDRIFT_CACHE_DIR=$KLDRIFT_CACHE_DIR to be writable; mount a tmpfs at /tmp" >&2
fi
exec kldrift "$@"
