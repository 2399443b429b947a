# SPDX-License-Identifier: Apache-2.0
"""An issuer of tokens for benchmarks: its keys, the relay's auth file, and files of tokens for sse-bench."""

import base64
import functools
import hashlib
import hmac
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ISSUER = "https://idp.example/realms/bench"
NAMESPACE = "default"  # where sse-bench publishes
TOPICS = ["bench", "bench.>"]
GENERATED = {"RS256": ["RSA", "rsa_keygen_bits:2048"], "ES256": ["EC", "ec_paramgen_curve:P-256"]}


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def openssl(*args, stdin=b""):
    return subprocess.run(["openssl", *args], input=stdin, check=True, capture_output=True).stdout


@functools.cache
def signing_key(alg):
    """A secret, or the key pair in PEM."""
    if alg.startswith("HS"):
        return hashlib.sha512(alg.encode()).hexdigest().encode()
    algorithm, option = GENERATED[alg]
    return openssl("genpkey", "-algorithm", algorithm, "-pkeyopt", option)


@functools.cache
def verifying_key(alg):
    key = signing_key(alg)
    return key if alg.startswith("HS") else openssl("pkey", "-pubout", stdin=key)


def signer(alg):
    """What signs bytes. Of HS256 without a library: the guard has none."""
    key = signing_key(alg)
    if alg == "HS256":
        return lambda text: hmac.digest(key, text, "sha256")
    import jwt

    method = jwt.get_algorithm_by_name(alg) if hasattr(jwt, "get_algorithm_by_name") else jwt.PyJWS()._algorithms[alg]
    prepared = method.prepare_key(key)
    return lambda text: method.sign(text, prepared)


def why_not():
    """Why no tokens can be made here, or None."""
    try:
        import cryptography  # noqa: F401
        import jwt  # noqa: F401
    except ImportError:
        return "python3-jwt and python3-cryptography are not installed"
    return None if shutil.which("openssl") else "openssl is not installed"


def claims(subject, now, life=24 * 3600):
    """Such as an identity provider puts into an access token."""
    rights = {"ns": NAMESPACE, "subscribe": TOPICS, "publish": ["bench.>", *TOPICS]}
    token_id = hashlib.sha256(f"{subject} {now}".encode()).hexdigest()[:32]
    return {
        "iss": ISSUER,
        "aud": "sse-relay",
        "sub": subject,
        "iat": now,
        "exp": now + life,
        "jti": token_id,
        "sse": rights,
    }


@functools.cache
def tokens(alg, count):
    """Of as many subjects: "user-0", …"""
    head, sign, now = compact({"alg": alg, "kid": "k1", "typ": "JWT"}), signer(alg), int(time.time()) - 5
    made = []
    for n in range(count):
        signed = f"{head}.{compact(claims(f'user-{n}', now))}"
        made.append(f"{signed}.{base64url(sign(signed.encode()))}")
    return made


class Credentials:
    """Files of one algorithm, in a directory that goes with close(). @anonymous: what requests without a token get."""

    def __init__(self, alg, anonymous=None):
        self.alg = alg
        self.dir = Path(tempfile.mkdtemp(prefix="sse-bench-auth-"))
        key = self.dir / "key"
        key.touch(0o600)
        key.write_bytes(verifying_key(alg))
        issuer = {"iss": ISSUER, "aud": "sse-relay", "algs": [alg], "keys": str(key), "namespaces": [NAMESPACE]}
        # Whoever revokes in a benchmark.
        self.admin = "admin-" + hashlib.sha256(signing_key(alg)).hexdigest()
        static = {"name": "admin", "ns": NAMESPACE, "admin": True}
        static["sha256"] = hashlib.sha256(self.admin.encode()).hexdigest()
        self.file = self.dir / "auth.json"
        self.file.touch(0o600)
        nobody = {"anonymous": {"ns": NAMESPACE, **anonymous}} if anonymous else {}
        self.file.write_text(json.dumps({"issuers": [issuer], "keys": [static], **nobody}))

    def tokens(self, count):
        """A file with a token on each line."""
        path = self.dir / f"tokens-{count}"
        if not path.exists():
            path.touch(0o600)
            path.write_text("".join(f"{token}\n" for token in tokens(self.alg, count)))
        return path

    def config(self):
        """The relay's options."""
        return {"auth.file": self.file}

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
