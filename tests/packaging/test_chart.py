"""What the chart makes of its values, and that deploy/*.yaml say the same."""

import copy
import json
import unittest

import kubernetes_validate
import yaml

from helm import CHART, REPOSITORY, Refused, render

DEPLOY = REPOSITORY / "deploy"
# What only Helm writes.
HELM_LABELS = ("app.kubernetes.io/managed-by", "helm.sh/chart")
DEFINITION = "CustomResourceDefinition"
# The oldest version that the chart and docs/kubernetes.md promise, and the newest that the schemas know.
OLDEST, NEWEST = "1.25", kubernetes_validate.latest_version()


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def key(document):
    return document["kind"], document["metadata"].get("namespace", ""), document["metadata"]["name"]


def by_key(found):
    keyed = {key(document): document for document in found}
    assert len(keyed) == len(found), "an object stands twice"
    return keyed


def without_helm(document):
    """As if it had not come by way of Helm."""
    document = copy.deepcopy(document)
    metadata = document["metadata"]
    for label in HELM_LABELS:
        metadata["labels"].pop(label)
    annotations = {name: text for name, text in metadata.pop("annotations", {}).items()
                   if not name.startswith("meta.helm.sh/")}
    if annotations:
        metadata["annotations"] = annotations
    return document


def rendered(values=None, **where):
    """What the templates make; the definitions of kinds stand beside them."""
    created = render(values, **where)[0]
    return by_key([without_helm(document) for document in created if document["kind"] != DEFINITION])


def only(found, kind):
    (document,) = [document for (its, _, _), document in found.items() if its == kind]
    return document


def container(found):
    (one,) = only(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    return one


def valid(document):
    """Against the OpenAPI of Kubernetes; the kinds of getambassador.io are for `nuncio check`."""
    if not document["apiVersion"].startswith("getambassador.io/"):
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(document, version, strict=True)


# Every value is something else than its default.
EVERYTHING = {
    "nameOverride": "gate", "fullnameOverride": "way", "namespaceOverride": "elsewhere", "createNamespace": True,
    "replicaCount": 7,
    "image": {"repository": "registry.test/nuncio", "tag": "9", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "env": {"AMBASSADOR_ID": "blue", "AMBASSADOR_DRAIN_TIME": 100, "AMBASSADOR_HEALTHCHECK_BIND_PORT": 8899},
    "envRaw": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    "extraArgs": ["--expose-reasons"],
    "namespace": {"name": "own"}, "scope": {"singleNamespace": True}, "rbac": {"nameOverride": "rights"},
    "serviceAccount": {"name": "someone", "annotations": {"a": "1"}},
    "service": {
        "type": "NodePort", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "externalIPs": ["192.0.2.1"],
        "loadBalancerIP": "192.0.2.2", "loadBalancerSourceRanges": ["192.0.2.0/24"], "annotations": {"b": "2"},
        "nameOverride": "front",
        "ports": [{"name": "web", "port": 81, "targetPort": 8081, "nodePort": 30081, "hostPort": 82,
                   "protocol": "TCP"}]},
    "adminService": {"type": "NodePort", "port": 8878, "nodePort": 30877, "annotations": {"c": "3"},
                     "loadBalancerIP": "192.0.2.3", "loadBalancerSourceRanges": ["192.0.2.0/25"]},
    "createDefaultListeners": True,
    "listeners": {"http": {"spec": {"port": 8081}}, "https": {"create": True}},
    "module": {"xff_num_trusted_hops": 1},
    "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "behavior": {
        "scaleDown": {"stabilizationWindowSeconds": 600}},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": 55}}}]},
    "podDisruptionBudget": {"minAvailable": 2},
    "deploymentStrategy": {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 1}},
    "progressDeadlines": {"ambassador": 99}, "shutdownDelaySeconds": 20, "terminationGracePeriodSeconds": None,
    "resources": {"limits": {"cpu": "3"}},
    "livenessProbe": {"periodSeconds": 11}, "readinessProbe": {"periodSeconds": 12},
    "startupProbe": {"periodSeconds": 13},
    "security": {"podSecurityContext": {"runAsUser": 1}, "containerSecurityContext": {"privileged": False}},
    "podLabels": {"d": "4"}, "podAnnotations": {"e": "5"}, "deploymentLabels": {"f": "6"},
    "deploymentAnnotations": {"g": "7"},
    "volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    "hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "priorityClassName": "high",
    "nodeSelector": {"h": "8"}, "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}}, "topologySpreadConstraints": [
        {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}],
}


class Defaults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.found = rendered()

    def test_pods_may_do_nothing_that_they_need_not(self):
        pod = only(self.found, "Deployment")["spec"]["template"]["spec"]
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertEqual(container(self.found)["securityContext"], {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})
        self.assertFalse(only(self.found, "ServiceAccount")["automountServiceAccountToken"])

    def test_two_replicas_that_spread_and_go_one_by_one(self):
        deployment = only(self.found, "Deployment")["spec"]
        self.assertEqual(deployment["replicas"], 2)
        labels = deployment["template"]["metadata"]["labels"]
        self.assertEqual([one["labelSelector"]["matchLabels"]
                          for one in deployment["template"]["spec"]["topologySpreadConstraints"]], [labels, labels])
        budget = only(self.found, "PodDisruptionBudget")["spec"]
        self.assertEqual(budget, {"maxUnavailable": 1, "selector": {"matchLabels": labels}})
        self.assertEqual(deployment["selector"]["matchLabels"], labels)
        for (kind, _, name), service in self.found.items():
            if kind == "Service":
                self.assertEqual(service["spec"]["selector"], labels, name)

    def test_no_listener_and_no_module_unless_asked_for(self):
        self.assertFalse({"Listener", "Module", "Namespace", "HorizontalPodAutoscaler"}
                         & {kind for kind, _, _ in self.found})


class Definitions(unittest.TestCase):
    def test_come_with_the_chart_and_are_valid(self):
        created = [document for document in render()[0] if document["kind"] == DEFINITION]
        (path,) = (CHART / "crds").iterdir()
        self.assertEqual(by_key(created), by_key(documents(path)))
        for document in created:
            with self.subTest(document["metadata"]["name"]):
                valid(document)


class Files(unittest.TestCase):
    """deploy/*.yaml are what the chart gives; where they differ is said here."""

    maxDiff = None

    def compare(self, path, values):
        written, made = by_key(documents(path)), rendered({"createNamespace": True, "autoscaling": {"enabled": True},
                                                           **values})
        # Helm leaves the number to the autoscaler; the file says how many there are before it works.
        (deployment,) = [name for name in written if name[0] == "Deployment"]
        self.assertEqual(written[deployment]["spec"].pop("replicas"), 2)
        self.assertEqual(set(written), set(made))
        for name, document in written.items():
            self.assertEqual(document, made[name])

    def test_for_the_cluster(self):
        self.compare(DEPLOY / "nuncio.yaml", {})

    def test_for_one_namespace(self):
        self.compare(DEPLOY / "nuncio-single-namespace.yaml", {"scope": {"singleNamespace": True}})

    def test_listeners(self):
        (written,) = documents(DEPLOY / "listeners.yaml")
        self.assertEqual(written, only(rendered({"createDefaultListeners": True}), "Listener"))

    def test_all_are_valid(self):
        for path in sorted(DEPLOY.glob("*.yaml")):
            for document in documents(path):
                with self.subTest(path.name, object=key(document)):
                    valid(document)


class Values(unittest.TestCase):
    maxDiff = None

    def test_every_value_has_an_effect(self):
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        self.assertEqual(set(defaults), set(EVERYTHING))
        before, notes = rendered(), set()
        for name, value in EVERYTHING.items():
            if name in ("replicaCount",):
                continue
            # Some show only beside another one.
            beside = {"listeners": {"createDefaultListeners": True}}.get(name, {})
            reference = rendered(beside) if beside else before
            for part in parts(value, defaults[name]):
                if part == {"enabled": True}:
                    continue
                given = {**beside, name: {"enabled": True, **part} if name == "autoscaling" else part}
                with self.subTest(given):
                    self.assertNotEqual(rendered(given), reference)
        self.assertEqual(only(rendered({"replicaCount": 7}), "Deployment")["spec"]["replicas"], 7)

    def test_everything_at_once_is_valid(self):
        found = rendered(EVERYTHING)
        for document in found.values():
            valid(document)
        pod = only(found, "Deployment")["spec"]["template"]["spec"]
        self.assertEqual(pod["terminationGracePeriodSeconds"], 20 + 100 + 10)
        self.assertNotIn("replicas", only(found, "Deployment")["spec"])
        one = container(found)
        self.assertEqual({port["name"]: port["containerPort"] for port in one["ports"]}, {"web": 8081, "admin": 8899})
        self.assertEqual({variable["name"]: variable.get("value") for variable in one["env"]}, {
            "AMBASSADOR_NAMESPACE": "own", "AMBASSADOR_SINGLE_NAMESPACE": "true", "AMBASSADOR_ID": "blue",
            "AMBASSADOR_DRAIN_TIME": "100", "AMBASSADOR_HEALTHCHECK_BIND_PORT": "8899", "TOKEN": None})
        for (kind, namespace, name), document in found.items():
            self.assertEqual(namespace, "" if kind == "Namespace" else "elsewhere", name)
            if kind in ("Listener", "Module"):
                self.assertEqual(document["spec"]["ambassador_id"], ["blue"])

    def test_one_namespace_needs_no_right_outside_of_it(self):
        found = rendered({"scope": {"singleNamespace": True}})
        self.assertFalse({"ClusterRole", "ClusterRoleBinding"} & {kind for kind, _, _ in found})

    def test_nothing_is_made_that_is_switched_off(self):
        found = rendered({"rbac": {"create": False}, "serviceAccount": {"create": False}, "adminService": {
            "create": False}, "podDisruptionBudget": None})
        self.assertEqual(sorted(kind for kind, _, _ in found), ["Deployment", "Service"])
        pod = only(found, "Deployment")["spec"]["template"]["spec"]
        self.assertEqual(pod["serviceAccountName"], "default")

    def test_defaults_give_way_to_what_excludes_them(self):
        found = rendered({"podDisruptionBudget": {"minAvailable": 1}, "deploymentStrategy": {"type": "Recreate"}})
        self.assertNotIn("maxUnavailable", only(found, "PodDisruptionBudget")["spec"])
        self.assertEqual(only(found, "Deployment")["spec"]["strategy"], {"type": "Recreate"})

    def test_variables_may_come_as_text(self):
        found = rendered({"envRaw": "- name: A\n  value: b\n"})
        self.assertIn({"name": "A", "value": "b"}, container(found)["env"])

    def test_names_follow_the_release(self):
        found = rendered(release="edge", namespace="front")
        self.assertIn(("Deployment", "front", "edge-nuncio"), found)
        self.assertIn(("ClusterRole", "", "edge-nuncio"), found)

    def test_what_is_not_known_is_refused(self):
        for values, place in [({"replicas": 3}, "replicas"), ({"service": {"typ": "ClusterIP"}}, "typ"),
                              ({"replicaCount": "two"}, "replicaCount"), ({"agent": {"enabled": True}}, "agent"),
                              ({"service": {"type": "External"}}, "/service/type")]:
            with self.subTest(values), self.assertRaisesRegex(Refused, place):
                render(values)

    def test_every_value_has_a_schema(self):
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        schema = json.loads((CHART / "values.schema.json").read_text())

        def compare(value, schema, place):
            if schema.get("additionalProperties") is not False:
                return
            self.assertEqual(set(schema["properties"]) - {"global"}, set(value), place)
            for name, part in value.items():
                compare(part, schema["properties"][name], f"{place}.{name}")

        compare(defaults, schema, "values")


def parts(value, default):
    """Each leaf of a value alone, so that none hides behind another."""
    if isinstance(value, dict) and isinstance(default, dict) and default:
        for name, inner in value.items():
            for part in parts(inner, default.get(name)):
                yield {name: part}
    elif value is not None:
        yield value


class Notes(unittest.TestCase):
    def notes(self, values=None):
        return render(values)[1]["info"]["notes"]

    def test_say_what_is_left_to_do(self):
        self.assertIn("write a Listener", self.notes())
        self.assertNotIn("write a Listener", self.notes({"createDefaultListeners": True}))

    def test_warn_of_a_grace_period_that_is_too_short(self):
        self.assertNotIn("WARNING", self.notes({"terminationGracePeriodSeconds": 35}))
        self.assertIn("WARNING", self.notes({"terminationGracePeriodSeconds": 34}))


if __name__ == "__main__":
    unittest.main()
