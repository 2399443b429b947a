# SPDX-License-Identifier: Apache-2.0
"""The auth files that docs/security.md prints, with tokens of the shape that each identity provider really issues:
what they get, by --explain, is what the document says."""

import json
import re
import subprocess
import time

import jwt
import pytest
from jwt.algorithms import RSAAlgorithm

from relay_process import BINARY, ROOT

NOW = int(time.time())
KID = "of-the-provider"


def times(life):
    return {"iat": NOW, "exp": NOW + life}


def keycloak(**more):
    """Keycloak 26: a user's access token, with an audience mapper."""
    return {
        **times(300),
        "jti": "onrtac:0b7c8f6e-6d0c-4c7e-9a42-3f2b7a1c5d11",
        "iss": "https://login.example.org/realms/shop",
        "aud": ["sse-relay", "account"],
        "sub": "8f1c2f4e-2f0b-4d0e-8c4c-5a8f0f1d7b21",
        "typ": "Bearer",
        "azp": "shop-web",
        "sid": "4d2c1f7a-5b7e-4f43-9d0a-2f6a1c9e8b70",
        "acr": "1",
        "allowed-origins": ["https://shop.example.org"],
        "realm_access": {"roles": ["default-roles-shop", "offline_access", "viewer"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "scope": "openid profile email",
        "email_verified": True,
        "preferred_username": "ada",
        **more,
    }


def auth0(**more):
    """Auth0: an access token for an API, with RBAC and an Action that adds claims."""
    return {
        **times(86400),
        "https://shop.example/tenant": "shop-test",
        "https://shop.example/roles": ["customer"],
        "iss": "https://shop.eu.auth0.com/",
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": ["https://sse-relay.shop.example", "https://shop.eu.auth0.com/userinfo"],
        "azp": "my1ClientIdmy1ClientIdmy1ClientI",
        "scope": "openid profile read:orders",
        "org_id": "org_9ybsU1dN2dKfDkBi",
        "permissions": ["read:orders"],
        **more,
    }


def cognito(**more):
    """Cognito: an access token of a user in a group."""
    return {
        **times(3600),
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "cognito:groups": ["viewers"],
        "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
        "version": 2,
        "client_id": "1example23456789",
        "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "auth_time": NOW,
        "jti": "bbbbbbbb-cccc-dddd-eeee-ffffffffffff",
        "username": "ada",
        **more,
    }


def kubernetes(account="billing", namespace="shop", **more):
    """Kubernetes 1.32: the projected token of a service account."""
    return {
        **times(3600),
        "aud": ["sse-relay"],
        "iss": "https://kubernetes.default.svc.cluster.local",
        "jti": "ea28ed49-2e11-4280-9ec5-bc3d1d84661a",
        "kubernetes.io": {
            "namespace": namespace,
            "node": {"name": "node-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
            "pod": {"name": f"{account}-7d9f-x2x4z", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
            "serviceaccount": {"name": account, "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        },
        "nbf": NOW,
        "sub": f"system:serviceaccount:{namespace}:{account}",
        **more,
    }


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "private.pem"
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()


def jwks(private):
    """As providers have it: with members that nobody needs here, and a key for encryption."""
    public = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(private).public_key()
    signs = {**json.loads(RSAAlgorithm.to_jwk(public)), "kid": KID, "use": "sig", "alg": "RS256"}
    signs.pop("key_ops", None)
    return {"keys": [{**signs, "kid": "enc", "use": "enc", "alg": "RSA-OAEP"}, {**signs, "x5t": "bm9uZQ"}]}


def documented(heading):
    """The first block of JSON below the heading."""
    text = (ROOT / "docs" / "security.md").read_text()
    body = text.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return next(block for block in re.findall(r"^```\n(.*?)^```$", body, re.MULTILINE | re.DOTALL) if block.startswith("{"))


@pytest.fixture
def explain(tmp_path, private):
    """explain("Keycloak", claims): (whether the token is valid, {(label, text), …} of what it gets, or would get)."""

    def run(heading, claims, header=None):
        keys = tmp_path / "keys.jwks"
        keys.write_text(json.dumps(jwks(private)))
        text, count = re.subn(r'"keys": "/[^"]*"', f'"keys": "{keys}"', documented(heading))
        assert count == 1
        file = tmp_path / "auth.json"
        file.write_text(text)
        late = int(time.time()) - NOW  # some of them live for minutes only
        claims = {k: v + late if k in ("iat", "nbf", "exp", "auth_time") else v for k, v in claims.items()}
        token = jwt.encode(claims, private, "RS256", {"kid": KID, **(header or {})})
        command = [str(BINARY), "--auth.file", str(file)]
        subprocess.run([*command, "--check-config"], env={}, check=True, capture_output=True)
        done = subprocess.run([*command, "--explain", "-"], env={}, input=token, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        assert token not in done.stdout + done.stderr
        gets = set(re.findall(r"^(namespace|subscribe|publish|match|admin) +(.*?)(?:  \(.*)?$", done.stdout, re.MULTILINE))
        return done.returncode == 0, gets

    return run


def lines(ns, **gets):
    return {("namespace", ns), *((label, text) for label, texts in gets.items() for text in texts)}


USER = "user." + keycloak()["sub"]

GETS = {
    "keycloak viewer": ("Keycloak", keycloak(), lines("shop", subscribe=[USER, "item.*", "order.>"])),
    "keycloak editor": (
        "Keycloak",
        keycloak(realm_access={"roles": ["editor"]}, aud="sse-relay"),
        lines("shop", subscribe=[USER, "item.*", "order.>"], publish=["item.*"]),
    ),
    "keycloak admin": (
        "Keycloak",
        keycloak(realm_access={"roles": []}, resource_access={"sse-relay": {"roles": ["admin"]}}),
        lines("shop", subscribe=[USER], admin=["yes"]),
    ),
    "keycloak nobody": ("Keycloak", keycloak(realm_access={"roles": ["viewerX"]}), lines("shop", subscribe=[USER])),
    "auth0": (
        "Auth0",
        auth0(),
        lines("shop-test", subscribe=["user." + auth0()["sub"], "orders.>"], match=["org = org_9ybsU1dN2dKfDkBi"]),
    ),
    "auth0 support": (
        "Auth0",
        auth0(**{"https://shop.example/roles": ["support"], "permissions": ["write:orders"]}),
        lines(
            "shop-test",
            subscribe=["user." + auth0()["sub"], "ticket.*"],
            publish=["orders.>"],
            match=["org = org_9ybsU1dN2dKfDkBi"],
            admin=["yes"],
        ),
    ),
    "cognito": ("Cognito", cognito(), lines("shop", subscribe=["user." + cognito()["sub"], "item.*"])),
    "cognito editor": (
        "Cognito",
        cognito(**{"cognito:groups": ["editors"]}),
        lines("shop", subscribe=["user." + cognito()["sub"], "item.*"], publish=["item.*"]),
    ),
    "kubernetes billing": (
        "Kubernetes",
        kubernetes(),
        lines("shop", subscribe=["orders.>", "workload.billing"], publish=["orders.>"]),
    ),
    "kubernetes web": ("Kubernetes", kubernetes("web"), lines("shop", subscribe=["orders.>", "workload.web"])),
    "kubernetes elsewhere": ("Kubernetes", kubernetes(namespace="kube-system"), lines("shop")),
}


@pytest.mark.parametrize("name", GETS)
def test_a_token_gets_what_the_document_says(explain, name):
    heading, claims, expected = GETS[name]
    assert explain(heading, claims) == (True, expected)


REFUSED = {
    "keycloak without the audience": ("Keycloak", keycloak(aud="account")),
    "keycloak of another realm": ("Keycloak", keycloak(iss="https://login.example.org/realms/other")),
    "auth0 for another API": ("Auth0", auth0(aud="https://shop.eu.auth0.com/userinfo")),
    "auth0 without the slash": ("Auth0", auth0(iss="https://shop.eu.auth0.com")),
    "cognito of another client": ("Cognito", cognito(client_id="2example")),
    "cognito's ID token": ("Cognito", {**{k: v for k, v in cognito().items() if k != "client_id"}, "aud": "1example23456789", "token_use": "id"}),
    "kubernetes for the API server": ("Kubernetes", kubernetes(aud=["https://kubernetes.default.svc.cluster.local"])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_for_something_else_is_refused(explain, name):
    assert explain(*REFUSED[name])[0] is False


def test_auth0_without_a_tenant_has_no_namespace(explain):
    """Its issuer may speak for two: never one of them by accident."""
    claims = {k: v for k, v in auth0().items() if k != "https://shop.example/tenant"}
    valid, gets = explain("Auth0", claims)
    assert valid and not {text for label, text in gets if label == "namespace"} & {"shop", "shop-test", "default"}
