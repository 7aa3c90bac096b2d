"""Renders the chart with Helm's own engine.

The library that holds the engine can install, but not only render. So it installs into a cluster that is
none: an HTTP server of this process that says yes to everything and keeps what was created. That is closer
to a real installation than the text of templates, too: values are checked against the chart's schema, kinds
are looked up, and what arrives is what a cluster would get.
"""

import asyncio
import json
import pathlib
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import helm_sdkpy

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "deploy/chart"

# Kinds that the chart may create: group and version, then kind, plural, whether it is namespaced.
KINDS = {
    "v1": [("Namespace", "namespaces", False), ("ServiceAccount", "serviceaccounts", True),
           ("Service", "services", True), ("Secret", "secrets", True)],
    "apps/v1": [("Deployment", "deployments", True)],
    "policy/v1": [("PodDisruptionBudget", "poddisruptionbudgets", True)],
    "autoscaling/v2": [("HorizontalPodAutoscaler", "horizontalpodautoscalers", True)],
    "rbac.authorization.k8s.io/v1": [
        ("ClusterRole", "clusterroles", False), ("ClusterRoleBinding", "clusterrolebindings", False),
        ("Role", "roles", True), ("RoleBinding", "rolebindings", True)],
    "getambassador.io/v3alpha1": [("Listener", "listeners", True), ("Module", "modules", True)],
    "apiextensions.k8s.io/v1": [("CustomResourceDefinition", "customresourcedefinitions", False)],
}

# What Helm notes for itself about a release comes in Protobuf, unlike all that the chart creates. It is no part of it.
RELEASE = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "release"}}


class Refused(Exception):
    """Helm does not install the chart with these values."""


def render(values=None, namespace="nuncio", release="nuncio"):
    """The objects that an installation creates, and the notes that it prints."""
    cluster = Cluster()
    with tempfile.TemporaryDirectory() as folder, cluster:
        kubeconfig = pathlib.Path(folder) / "config"
        kubeconfig.write_text(json.dumps(cluster.kubeconfig()))
        configuration = helm_sdkpy.Configuration(namespace=namespace, kubeconfig=str(kubeconfig))
        install = helm_sdkpy.Install(configuration)
        try:
            release = asyncio.run(install.run(release, str(CHART), values=values, wait=False))
        except helm_sdkpy.HelmError as error:
            raise Refused(str(error)) from None
    return cluster.created, release


class Cluster:
    """A server that knows kinds, holds nothing, and takes everything."""

    def __init__(self):
        self.created = []
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of an answer in one packet; else each answer waits for an acknowledgement.
            wbufsize = -1

            def do_GET(self):
                self.answer(cluster.get(self.path.split("?")[0]))

            def do_POST(self):
                body = self.body()
                if body != RELEASE:
                    cluster.created.append(body)
                self.answer(body, 201)

            def do_PUT(self):
                self.answer(self.body())

            def body(self):
                text = self.rfile.read(int(self.headers["content-length"]))
                return json.loads(text) if self.headers["content-type"] == "application/json" else RELEASE

            def answer(self, body, status=200):
                if body is None:
                    status, body = 404, {"apiVersion": "v1", "kind": "Status", "status": "Failure",
                                         "reason": "NotFound", "message": "not found", "code": 404}
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
                self.wfile.flush()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def kubeconfig(self):
        address = "http://%s:%d" % self.server.server_address
        return {"apiVersion": "v1", "kind": "Config", "current-context": "none",
                "clusters": [{"name": "none", "cluster": {"server": address}}],
                "users": [{"name": "none", "user": {}}],
                "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}]}

    def get(self, path):
        if path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": self.groups()}
        for prefix in ("/api/", "/apis/"):
            kinds = KINDS.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
            if kinds:
                return {"kind": "APIResourceList", "apiVersion": "v1",
                        "groupVersion": path.removeprefix(prefix),
                        "resources": [self.resource(*kind) for kind in kinds]}
        if path.endswith("/secrets"):
            return {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
        return None

    @staticmethod
    def groups():
        versions = [key.split("/") for key in KINDS if "/" in key]
        return [{"name": group, "versions": [{"groupVersion": f"{group}/{version}", "version": version}],
                 "preferredVersion": {"groupVersion": f"{group}/{version}", "version": version}}
                for group, version in versions]

    @staticmethod
    def resource(kind, plural, namespaced):
        return {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}
