"""Certificates that a run needs, made by openssl in its working folder."""

import hashlib
import pathlib
import ssl
import subprocess

from processes import program


def openssl(*arguments: str):
    subprocess.run([program("openssl"), *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


class Pair:
    """A certificate and its key: two files and their text."""

    def __init__(self, certificate: pathlib.Path, key: pathlib.Path):
        self.certificate_file, self.key_file = certificate, key
        self.certificate, self.key = certificate.read_text(), key.read_text()

    def sha1(self) -> str:
        """What nginx logs as $ssl_client_fingerprint."""
        return hashlib.sha1(ssl.PEM_cert_to_DER_cert(self.certificate)).hexdigest()


class Authority:
    """A P-256 CA of one run."""

    def __init__(self, folder: pathlib.Path, name: str):
        self.folder, self.name, self.count = folder, name, 0
        self.pair = self.make(name, ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"])

    def make(self, name: str, more: list[str]) -> Pair:
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate), *more)
        return Pair(certificate, key)

    def issue(self, name: str, purpose: str) -> Pair:
        """A leaf; `purpose` is serverAuth or clientAuth. A server's DNS name is `name`."""
        self.count += 1
        return self.make(f"{self.name}-{self.count}-{name}"[:60], [
            "-CA", str(self.pair.certificate_file), "-CAkey", str(self.pair.key_file),
            "-addext", f"subjectAltName=DNS:{name}", "-addext", f"extendedKeyUsage={purpose}",
            "-addext", "basicConstraints=critical,CA:FALSE"])


def bundle(folder: pathlib.Path, count: int) -> str:
    """The PEM of so many CA certificates, each with a key of its own."""
    return "".join(Authority(folder, f"bundle-{number}").pair.certificate for number in range(count))
