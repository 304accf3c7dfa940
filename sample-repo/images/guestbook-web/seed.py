"""Puts a first entry into an empty guestbook. Run twice it does nothing the second time."""

import sys
import time

import redis_client

ATTEMPTS = 60


def main() -> int:
    for _ in range(ATTEMPTS):
        try:
            with redis_client.Redis.from_environment() as redis:
                if redis.command("SETNX", "seeded", "yes"):
                    redis.command("RPUSH", "entries", "The first entry came from a Job.")
                    print("seeded")
                else:
                    print("was seeded before")
                return 0
        except OSError as error:
            print(f"waiting for redis: {error}", flush=True)
            time.sleep(0.5)
    print("redis did not answer; giving up", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
