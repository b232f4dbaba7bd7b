#!/usr/bin/env python3
"""A second, independent BMC: pyghmi's, with cipher suite 17, Kg, privilege limits and honest refusals added.

Usage: pyghmi_bmc.py STATE. Reads STATE/bmc.json: {"port", "guid" (32 hex digits, wire order), "kg" (or null),
"users": {NAME: {"password", "privilege" (2 user, 3 operator, 4 administrator)}}, "suites": [3, 17],
"force_suite" (answer with this one whatever is asked; or null), "silent_user" (ignore an unknown user)}.
Keeps the power in memory, so it acts at once; STATE/power shows it. Knobs, read at each order: STATE/lie (accept, do
nothing), STATE/refuse (a completion code in hex), STATE/strict (refuse an order for what already is with D5h). Each order
adds a line to STATE/calls. Prints "ready" once it listens.
"""

import hashlib
import hmac
import json
import os
import pathlib
import struct
import sys
import types
import uuid

import pyghmi.ipmi.bmc as bmc
import pyghmi.ipmi.private.constants as constants
import pyghmi.ipmi.private.serversession as serversession

SUITES = {3: ((1, 1, 1), hashlib.sha1, 12), 17: ((3, 4, 1), hashlib.sha256, 16)}


class Session(serversession.ServerSession):
    """pyghmi's server session, with the suite that the console asked for."""

    def create_open_session_response(self, request):
        asked = (request[12] & 0x3F, request[20] & 0x3F, request[28] & 0x3F)
        self.clientsessionid = request[4:8]
        self.managedsessionid = os.urandom(4)
        self.privlevel = 4
        # A console's port may come again with a new login; what follows is in the clear until RAKP message 4.
        self.kuid, self.k1, self.confalgo, self.integrityalgo = None, None, 0, 0
        self.sessionid, self.sequencenumber, self.remseqnumber = 0, 0, None
        config = self.bmc.config
        names = [name for name in config["suites"] if SUITES[name][0] == asked]
        if config["force_suite"]:
            names = [config["force_suite"]]
        if not names:
            return bytearray([request[0], 0x11, 0, 0]) + self.clientsessionid
        algorithms, self.digest, self.icv_len = SUITES[names[0]]
        body = bytearray([request[0], 0, self.privlevel, 0]) + self.clientsessionid + self.managedsessionid
        for kind, algorithm in enumerate(algorithms):
            body += bytearray([kind, 0, 0, 8, algorithm, 0, 0, 0])
        return body

    def refuse(self, payload, tag, status):
        self.send_payload(bytearray([tag, status, 0, 0]) + self.clientsessionid,
                          constants.payload_types[payload], retry=False)

    def _got_rakp1(self, data):
        self.Rm, self.rolem = data[8:24], data[24]
        self.username = bytes(data[28:28 + data[27]])
        config = self.bmc.config
        user = config["users"].get(self.username.decode("utf-8", "replace"))
        if user is None:
            if not config["silent_user"]:
                self.refuse("rakp2", data[0], 0x0D)
            return
        self.maxpriv = min(self.rolem & 0x0F, user["privilege"])
        self.clientpriv = 2
        self.kuid = user["password"].encode()
        self.kg = (config["kg"] or user["password"]).encode()
        self.uuiddata = self.bmc.guid
        self.Rc = os.urandom(16)
        self.who = struct.pack("2B", self.rolem, len(self.username)) + self.username
        covered = self.clientsessionid + self.managedsessionid + self.Rm + self.Rc + self.uuiddata + self.who
        code = hmac.new(self.kuid, bytes(covered), self.digest).digest()
        self.send_payload(bytearray([data[0], 0, 0, 0]) + self.clientsessionid + self.Rc + self.uuiddata + code,
                          constants.payload_types["rakp2"], retry=False)

    def _got_rakp3(self, data):
        if data[1] != 0 or self.kuid is None:
            return
        expected = hmac.new(self.kuid, bytes(self.Rc + self.clientsessionid + self.who), self.digest).digest()
        if bytes(data[8:]) != expected:
            return self.refuse("rakp4", data[0], 0x0F)
        self.sik = hmac.new(self.kg, bytes(self.Rm + self.Rc + self.who), self.digest).digest()
        self.k1 = hmac.new(self.sik, b"\x01" * 20, self.digest).digest()
        self.k2 = hmac.new(self.sik, b"\x02" * 20, self.digest).digest()
        self.aeskey = self.k2[:16]
        self.currhashlib, self.currhashlen = self.digest, self.icv_len
        self.localsid = struct.unpack("<I", self.managedsessionid)[0]
        self.ipmicallback = self.handle_client_request
        self._send_rakp4(data[0], 0)

    def _send_rakp4(self, tagvalue, statuscode):
        covered = bytes(self.Rm + self.managedsessionid + self.uuiddata)
        code = hmac.new(self.sik, covered, self.digest).digest()[:self.icv_len]
        self.send_payload(bytearray([tagvalue, statuscode, 0, 0]) + self.clientsessionid + code,
                          constants.payload_types["rakp4"], retry=False)
        self.confalgo, self.integrityalgo = "aes", "hmac"
        self.sequencenumber = 1
        self.sessionid = struct.unpack("<I", bytes(self.clientsessionid))[0]

    def close_server_session(self):
        # Still in pyghmi's table, deaf from now on: it dies of a datagram for a session that it has forgotten.
        self.localsid = None


class Bmc(bmc.Bmc):
    def __init__(self, state):
        self.state = pathlib.Path(state)
        self.config = json.loads((self.state / "bmc.json").read_text())
        self.guid = bytes.fromhex(self.config["guid"])
        self.power = int((self.state / "power").read_text())
        super().__init__({}, port=self.config["port"], address="::ffff:127.0.0.1",
                         bmcuuid=uuid.UUID(bytes=self.guid))

    def get_system_guid(self):
        # IPMI sends the GUID as it stands in wire order; pyghmi asks for a property of that name.
        return types.SimpleNamespace(bytes_le=self.guid)

    def control_chassis(self, request, session):
        if getattr(session, "clientpriv", 0) < 3:
            return session.send_ipmi_response(code=0xD4)
        return super().control_chassis(request, session)

    def order(self, wanted):
        with open(self.state / "calls", "a") as calls:
            calls.write(f"set power {wanted}\n")
        if (self.state / "refuse").exists():
            return int((self.state / "refuse").read_text(), 16)
        if self.power == wanted and (self.state / "strict").exists():
            return 0xD5
        if not (self.state / "lie").exists():
            self.power = wanted
            (self.state / "power").write_text(f"{wanted}\n")
        return 0

    def power_off(self):
        return self.order(0)

    def power_on(self):
        return self.order(1)

    def get_power_state(self):
        return self.power


serversession.ServerSession = Session
peer = Bmc(sys.argv[1])
print("ready", flush=True)
peer.listen()
