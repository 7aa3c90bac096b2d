"""What an API server would make of objects by the definitions that `nuncio crds` prints."""

import subprocess
import tempfile
import unittest
from pathlib import Path

import celpy
import celpy.adapter
import jsonschema
import yaml

from helm import CHART, REPOSITORY

GROUP = "getambassador.io"
OPEN = "x-kubernetes-preserve-unknown-fields"


def schemas():
    """By kind, of the version that is served."""
    (path,) = (CHART / "crds").iterdir()
    found = {}
    for definition in yaml.safe_load_all(path.read_text()):
        spec = definition["spec"]
        (served,) = [version for version in spec["versions"] if version["served"]]
        found[spec["names"]["kind"]] = served["schema"]["openAPIV3Schema"]
    return found


SCHEMAS = schemas()


def pruned(schema, value, path=""):
    """The fields that the API server would take away."""
    if isinstance(value, list):
        return [field for one in value for field in pruned(schema.get("items", {}), one, path + "[]")]
    if not isinstance(value, dict):
        return []
    known, rest, lost = schema.get("properties", {}), schema.get("additionalProperties"), []
    for name, inner in value.items():
        place = f"{path}.{name}"
        if name in known:
            lost += pruned(known[name], inner, place)
        elif rest is not None:
            lost += pruned(rest, inner, place)
        elif not schema.get(OPEN):
            lost.append(place)
    return lost


def broken_rules(kind, spec):
    """The messages of the rules that do not hold."""
    environment, messages = celpy.Environment(), []
    for rule in SCHEMAS[kind]["properties"]["spec"].get("x-kubernetes-validations", []):
        program = environment.program(environment.compile(rule["rule"]))
        if not program.evaluate({"self": celpy.adapter.json_to_cel(spec)}):
            messages.append(rule["message"])
    return messages


def refusals(document):
    """Why the API server would refuse it."""
    schema = SCHEMAS[document["kind"]]
    errors = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]
    return errors + broken_rules(document["kind"], document.get("spec", {}))


def written(kind, spec):
    return {"apiVersion": f"{GROUP}/v3alpha1", "kind": kind, "metadata": {"name": "it"}, "spec": spec}


MAPPING = {"prefix": "/", "service": "svc"}
LISTENER = {"port": 8080, "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}}

# Let through, with every field as it stands.
GOOD = [
    ("Mapping", {**MAPPING, "host_rewrite": "", "auto_host_rewrite": True}),
    ("Mapping", {**MAPPING, "add_request_headers": {"a": "b", "c": {"value": "d", "append": False}}}),
    ("Mapping", {**MAPPING, "labels": {"d": [{"g": [{"generic_key": {"value": "v"}}]}]}, "cors": {"origins": ["*"]},
                 "v2ExplicitTLS": {"tls": "bool:true"}, "retry_policy": {"retry_on": "5xx", "retry_back_off": {}}}),
    ("TLSContext", {"min_tls_version": "v1.2", "max_tls_version": "v1.2", "sni": "a.test", "auto_sni": False}),
    ("TLSContext", {"max_tls_version": "v1.0", "auto_sni": True, "sni": "",
                    "verify": {"mode": "full", "names": ["a.test"], "roots": "system", "pins": []}}),
    ("Host", {"hostname": "*", "tls": {"ca_secret": "ca", "caSecret": "ca"}, "acmeProvider": {"authority": "none"}}),
    ("Host", {"tlsContext": {"name": "c"}, "requestPolicy": {"insecure": {"action": "Route", "additionalPort": -1}},
              "mappingSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}),
    ("Listener", {**LISTENER, "protocolStack": ["TLS", "HTTP", "TCP"], "statsPrefix": "s"}),
    ("Module", {"ambassador_id": ["a"], "config": {"server_name": 5, "whatever": {"a": 1}, "defaults": {"x": 1},
                                                   "certificate_expiry_warning_days": [7, 1]}}),
    ("TCPMapping", {"port": 6000, "service": "svc", "circuit_breakers": [{"max_connections": 1}]}),
    ("AuthService", {"auth_service": "auth", "proto": "grpc"}),
    ("KubernetesEndpointResolver", {"ambassador_id": ["a"]}),
]

# Refused, and by `nuncio check` where it stands in a file.
BAD = [
    ("Mapping", {"prefix": "/"}),
    ("Mapping", {**MAPPING, "tls": True}),
    ("Mapping", {**MAPPING, "host_rewrite": "a.test", "auto_host_rewrite": True}),
    ("Mapping", {**MAPPING, "retry_policy": {"retry_on": "always"}}),
    ("TLSContext", {"min_tls_version": "v1.3", "max_tls_version": "v1.2"}),
    ("TLSContext", {"min_tls_version": "1.3"}),
    ("TLSContext", {"sni": "a.test", "auto_sni": True}),
    ("TLSContext", {"verify": {"mode": "strict"}}),
    ("Host", {"requestPolicy": {"insecure": {"action": "Drop"}}}),
    ("Listener", {**LISTENER, "port": 0, "protocol": "HTTP"}),
    ("Listener", {**LISTENER, "port": 8080, "protocol": "GOPHER"}),
    ("Listener", {"port": 8080, "protocol": "HTTP", "hostBinding": {"namespace": {"from": "ALL"}}}),
]


class Definitions(unittest.TestCase):
    def test_what_the_reference_takes_is_let_through_whole(self):
        for kind, spec in GOOD:
            with self.subTest(kind, spec=spec):
                self.assertEqual(refusals(written(kind, spec)), [])
                self.assertEqual(pruned(SCHEMAS[kind], {"spec": spec}), [])

    def test_what_is_refused_is_an_error_of_nuncio_too(self):
        subprocess.run(["cargo", "build", "--quiet", "--locked", "--bin", "nuncio"], cwd=REPOSITORY, check=True)

        def status(kind, spec):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(written(kind, spec), file)
                file.flush()
                command = [REPOSITORY / "target" / "debug" / "nuncio", "check", file.name]
                return subprocess.run(command, capture_output=True).returncode

        self.assertEqual(status("Mapping", {**MAPPING, "hostname": "*"}), 0)
        for kind, spec in BAD:
            with self.subTest(kind, spec=spec):
                self.assertNotEqual(refusals(written(kind, spec)), [])
                self.assertEqual(status(kind, spec), 1)

    def test_both_forms_of_tls_on_a_host_are_refused(self):
        self.assertEqual(len(refusals(written("Host", {"tls": {}, "tlsContext": {"name": "c"}}))), 1)

    def test_a_name_with_a_typing_error_does_not_stay(self):
        self.assertEqual(pruned(SCHEMAS["Mapping"], {"spec": {**MAPPING, "prefx": 1, "regex_rewrite": {"patern": 1}}}),
                         [".spec.prefx", ".spec.regex_rewrite.patern"])

    def test_examples_are_let_through_whole(self):
        ours = [document for path in sorted(Path(REPOSITORY / "examples").glob("*.yaml"))
                for document in yaml.safe_load_all(path.read_text())
                if document and document["apiVersion"] == f"{GROUP}/v3alpha1"]
        self.assertGreater(len(ours), 2)
        for document in ours:
            with self.subTest(document["metadata"]["name"]):
                self.assertEqual(refusals(document), [])
                self.assertEqual(pruned(SCHEMAS[document["kind"]], {"spec": document["spec"]}), [])


if __name__ == "__main__":
    unittest.main()
