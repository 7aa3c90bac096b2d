"""What docs/kubernetes.md shows is valid, and the values that it names are the chart's."""

import re
import textwrap
import unittest

import yaml

from helm import CHART, REPOSITORY
from test_chart import key, rendered, valid

PAGE = (REPOSITORY / "docs/kubernetes.md").read_text()
# Kinds that others define, in programs that are not here.
FOREIGN = ("cert-manager.io/",)


def blocks(kind):
    found = re.findall(rf"^( *)```{kind}\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(text) for _, text in found]


def has(values, path):
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


class Page(unittest.TestCase):
    def setUp(self):
        self.values = yaml.safe_load((CHART / "values.yaml").read_text())

    def test_manifests_are_valid(self):
        count = 0
        for block in blocks("yaml"):
            if block.startswith("# values.yaml"):
                continue
            for document in yaml.safe_load_all(block):
                if not document["apiVersion"].startswith(FOREIGN):
                    with self.subTest(key(document)):
                        valid(document)
                count += 1
        self.assertGreater(count, 5)

    def test_the_chart_takes_its_values(self):
        files = [block for block in blocks("yaml") if block.startswith("# values.yaml")]
        self.assertEqual(len(files), 3)
        for block in files:
            for document in rendered(yaml.safe_load(block)).values():
                valid(document)

    def test_values_that_it_names_are_there(self):
        named = set(re.findall(r"`([a-z]\w*(?:\.\w+)+)`", PAGE))
        ours = {path for path in named if path.split(".")[0] in self.values and not path.startswith("env.")}
        self.assertIn("scope.singleNamespace", ours)
        for path in ours:
            self.assertTrue(has(self.values, path), path)

    def test_values_that_it_calls_missing_are_missing(self):
        (table,) = re.findall(r"^\| value of the other chart.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
        rows = [row.split("|") for row in table.strip().splitlines()[2:]]
        for _, names, what, _ in rows:
            for name in re.findall(r"`([\w.]+)`", names):
                with self.subTest(name):
                    self.assertEqual(has(self.values, name), not what.strip().startswith("none"))


if __name__ == "__main__":
    unittest.main()
