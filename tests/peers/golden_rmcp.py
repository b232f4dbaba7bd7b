#!/usr/bin/env python3
"""Makes the golden bytes of fencing/devices/src/ipmi/golden with Python's hmac and OpenSSL, apart from our own code.

Usage: golden_rmcp.py DIR. Run it once per change of the format, which has not changed since 2004.
"""

import hashlib
import hmac
import pathlib
import struct
import subprocess
import sys


def aes_cbc(key, iv, plain):
    done = subprocess.run(
        ["openssl", "enc", "-aes-128-cbc", "-nopad", "-K", key.hex(), "-iv", iv.hex()],
        input=plain, capture_output=True, check=True)
    return iv + done.stdout


def encrypt(key, iv, plain):
    pad = (16 - (len(plain) + 1) % 16) % 16
    return aes_cbc(key, iv, plain + bytes(range(1, pad + 1)) + bytes([pad]))


def keys(digest, sik):
    k1 = hmac.new(sik, b"\x01" * 20, digest).digest()
    k2 = hmac.new(sik, b"\x02" * 20, digest).digest()
    return k1, k2[:16]


def sealed(digest, tag_len, sik, session, sequence, iv, message):
    k1, k2 = keys(digest, sik)
    body = encrypt(k2, iv, message)
    covered = struct.pack("<BBIIH", 6, 0xC0, session, sequence, len(body)) + body
    pad = -(len(covered) + 2) % 4
    covered += b"\xff" * pad + bytes([pad, 7])
    return b"\x06\x00\xff\x07" + covered + hmac.new(k1, covered, digest).digest()[:tag_len]


def rakp(digest, icv_len):
    """What both sides compute for user admin, password secret, Kg absent, console 0x01020304, BMC 0x0a0b0c0d."""
    console, bmc = bytes([4, 3, 2, 1]), bytes([0x0D, 0x0C, 0x0B, 0x0A])
    rm, rc, guid = b"\x11" * 16, b"\x22" * 16, b"\x33" * 16
    who = bytes([0x13, 5]) + b"admin"
    rakp2 = hmac.new(b"secret", console + bmc + rm + rc + guid + who, digest).digest()
    rakp3 = hmac.new(b"secret", rc + console + who, digest).digest()
    sik = hmac.new(b"secret", rm + rc + who, digest).digest()
    rakp4 = hmac.new(sik, rm + bmc + guid, digest).digest()[:icv_len]
    return "\n".join(part.hex() for part in (rakp2, rakp3, sik, rakp4))


def main():
    to = pathlib.Path(sys.argv[1])
    message = bytes([0x20, 0x00, 0xE0, 0x81, 0x04, 0x01, 0x7A])
    suites = {"3": (hashlib.sha1, 12), "17": (hashlib.sha256, 16)}
    for name, (digest, tag_len) in suites.items():
        datagram = sealed(digest, tag_len, b"\x5a" * 20, 0x04030201, 7, b"\xaa" * 16, message)
        (to / f"sealed_suite_{name}.hex").write_text(datagram.hex() + "\n")
        (to / f"rakp_suite_{name}.hex").write_text(rakp(digest, tag_len) + "\n")
    _, key = keys(hashlib.sha1, bytes(20))
    (to / "aes_cbc.hex").write_text(encrypt(key, b"\xaa" * 16, bytes([0x20, 0x00, 0xE0])).hex() + "\n")


main()
