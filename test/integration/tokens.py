# SPDX-License-Identifier: Apache-2.0
"""An issuer of tokens under test: keys by openssl, tokens by two libraries that are not ours.

    issuer = Issuer(directory, "https://i.example", namespaces=["t1"])
    issuer.entry()                      # its object in `issuers` of an auth file; its keys are in a JWKS file
    issuer.token(sub="42", sse={"ns": "t1", "subscribe": ["orders.*"]})
    forge({"alg": "none"}, claims)      # what no library would make
"""

import base64
import functools
import hashlib
import hmac
import json
import subprocess
import time
import uuid

import jwt
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jwt as jwcrypto_jwt

LIBRARIES = ("jwt", "jwcrypto")

GENERATED = {
    "RS": ["RSA", "rsa_keygen_bits:2048"],
    "PS": ["RSA", "rsa_keygen_bits:2048"],
    "ES256": ["EC", "ec_paramgen_curve:P-256"],
    "ES384": ["EC", "ec_paramgen_curve:P-384"],
    "ES512": ["EC", "ec_paramgen_curve:P-521"],
    "EdDSA": ["ED25519"],
    "Ed448": ["ED448"],
}


def openssl(*args, stdin=b""):
    return subprocess.run(["openssl", *map(str, args)], input=stdin, check=True, capture_output=True).stdout


@functools.cache
def private_pem(kind, name):
    """The same for the same name, as long as the tests run: RSA keys take their time."""
    algorithm, *option = GENERATED.get(kind) or GENERATED[kind[:2]]
    return openssl("genpkey", "-algorithm", algorithm, *(["-pkeyopt", *option] if option else []))


@functools.cache
def public_pem(kind, name):
    return openssl("pkey", "-pubout", stdin=private_pem(kind, name))


class Key:
    """A key pair, or the secret of an HS algorithm, of which there is one for each (kind, name)."""

    def __init__(self, alg="RS256", kid="k1", name=None, kind=None):
        self.alg, self.kid = alg, kid
        self._id = (kind or (alg if alg[:2] in ("ES", "Ed") else alg[:2]), name or kid)
        self.secret = hashlib.sha512(f"{self._id}".encode()).hexdigest().encode() if alg[:2] == "HS" else None

    @property
    def private(self):
        """What a library signs with."""
        return self.secret or private_pem(*self._id)

    @property
    def public(self):
        """PEM, as an operator would have it in a file; of an HS algorithm the secret."""
        return self.secret or public_pem(*self._id)

    def _jwk(self):
        if self.secret:
            return jwcrypto_jwk.JWK(kty="oct", k=base64url(self.secret))
        return jwcrypto_jwk.JWK.from_pem(private_pem(*self._id))

    def jwk(self, **more):
        """The public part as the member of a JWKS."""
        exported = json.loads(self._jwk().export() if self.secret else self._jwk().export_public())
        kid = {"kid": self.kid} if self.kid is not None else {}
        return {**{k: v for k, v in exported.items() if k != "kid"}, **kid, "alg": self.alg, "use": "sig", **more}

    def sign(self, claims, headers=None, library="jwt"):
        """A token. @headers: more of them; one that is None is left out."""
        header = {"kid": self.kid, "typ": "JWT", **(headers or {})}
        header = {k: v for k, v in header.items() if v is not None}
        if library == "jwt":
            return jwt.encode(claims, self.private, algorithm=self.alg, headers=header)
        token = jwcrypto_jwt.JWT(header={**header, "alg": self.alg}, claims=claims)
        token.make_signed_token(self._jwk())
        return token.serialize()


class Issuer:
    """Whoever gives tokens, with the file that an operator has put its keys into."""

    def __init__(self, directory, iss, alg="RS256", kid="k1", aud="sse-relay", namespaces=("t1",), **members):
        self.iss, self.aud = iss, aud
        self.members = members  # more of its object in the auth file
        self.namespaces = list(namespaces)
        self.key = Key(alg, kid, name=f"{iss} {kid}")
        self.algs = [alg]
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / (hashlib.sha256(iss.encode()).hexdigest()[:12] + ".jwks")
        self.publish_keys(self.key)

    def publish_keys(self, *keys):
        """The file has these from now on, as JWKS; replaced in one step."""
        replace(self.path, json.dumps({"keys": [key.jwk() for key in keys]}))

    def entry(self, **more):
        known = {"iss": self.iss, "aud": self.aud, "algs": self.algs, "keys": str(self.path)}
        entry = {**known, "namespaces": self.namespaces, **self.members, **more}
        return {name: value for name, value in entry.items() if value is not None}

    def claims(self, life=3600, **more):
        """Those of an ordinary token; one that is None is left out."""
        now = int(time.time())
        usual = {"iss": self.iss, "aud": self.aud, "iat": now, "exp": now + life, "jti": uuid.uuid4().hex}
        return {name: value for name, value in {**usual, **more}.items() if value is not None}

    def token(self, life=3600, library="jwt", headers=None, key=None, **claims):
        return (key or self.key).sign(self.claims(life, **claims), headers, library)


# --- by hand ---


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header, claims):
    """The first two parts. @header, @claims: an object, or the JSON text itself."""
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    return ".".join(base64url(text.encode()) for text in texts)


def forge(header, claims, secret=None):
    """A token signed by HMAC-SHA-256 with any bytes, or with an empty signature."""
    text = unsigned(header, claims)
    mac = hmac.new(secret, text.encode(), hashlib.sha256).digest() if secret is not None else b""
    return f"{text}.{base64url(mac)}"


# --- files ---


def replace(path, text):
    """Another content in one step, so that nobody reads half of it."""
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(text if isinstance(text, bytes) else text.encode())
    aside.rename(path)


class AuthFile:
    """auth.file: write(issuers=[…], rules=[…], …); what was written before stays, but for what is None."""

    def __init__(self, path, **members):
        self.path, self.members = path, {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(**members)

    def write(self, **members):
        self.members = {k: v for k, v in {**self.members, **members}.items() if v is not None}
        replace(self.path, json.dumps(self.members, indent=1))
        return self


def static_key(name, text, **grants):
    """An entry of `keys` in the auth file."""
    return {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest(), **grants}
