"""Content Credentials (C2PA): a signed manifest inside a video says how it was made.

Anyone can rewrite the record in a file's header. A manifest is signed, together with a hash of the
file, by the holder of a certificate's key, so that a change of either shows. Needs the extra
`[c2pa]`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gaussiantalker_ns.inference.provenance import DIGITAL_SOURCE_TYPE, Provenance

PROVENANCE_LABEL = "gaussiantalker-ns.provenance"
"""The manifest's assertion of our own, which holds what the sidecar holds."""

SETTINGS = {
    "verify": {"verify_after_sign": True, "ocsp_fetch": False, "remote_manifest_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
"""The library checks what it signed, and asks nobody over the network to do so."""

CREATED: dict[str, object] = {"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE}
"""The first action of every manifest: a trained model made this, from nothing that was signed."""

CURVE_ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""Elliptic curve of the key -> C2PA's name of the signature algorithm."""


@dataclass(frozen=True)
class ContentCredentials:
    """A certificate chain and its private key that are known to sign; made by `load`."""

    algorithm: str
    """C2PA's name of the signature algorithm, which follows from the key."""
    chain_pem: bytes
    """The signer's certificate, then those of the authorities above it."""
    key_pem: bytes = field(repr=False)
    """The private key as PKCS#8, the only form that the library reads."""
    timestamp_url: str | None = None
    """Time-stamp authority (RFC 3161) that dates every signature; None asks nobody."""

    @classmethod
    def load(
        cls, certificate: Path, key: Path, timestamp_url: str | None = None
    ) -> "ContentCredentials":
        """Read both PEM files and sign a picture of one pixel with them, on trial.

        What could go wrong after an hour of rendering (an expired certificate, one that may not
        sign content, a time-stamp server that does not answer) therefore goes wrong here.

        Raises:
            FileNotFoundError: If one of the files is missing.
            ValueError: If the extra is not installed, a file cannot be used, the key belongs to
                another certificate, or the trial fails.
        """
        for sampler, path in (("certificate chain", certificate), ("private key", key)):
            if not path.is_file():
                raise FileNotFoundError(
                    f"No {sampler} at {path}; expected a PEM file. Correct the path."
                )
        require_extra()
        from cryptography.hazmat.primitives import serialization

        chain = read_chain(certificate)
        private_key = read_key(key)
        if chain[0].public_key() != private_key.public_key():
            raise ValueError(
                f"The key in {key} does not belong to the first certificate in {certificate}"
                f" ({chain[0].subject.rfc4514_string()}); expected the signer's own certificate"
                " first, then those above it. Choose the key that was made for this certificate,"
                " or put the certificates in order."
            )
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        bare = serialization.NoEncryption()
        credentials = cls(
            algorithm=algorithm_of(private_key, key),
            chain_pem=b"".join(one.public_bytes(pem) for one in chain),
            key_pem=private_key.private_bytes(pem, pkcs8, bare),
            timestamp_url=timestamp_url,
        )
        credentials._try_out(certificate, key)
        return credentials

    def sign(self, video: Path, signed: Path, provenance: Provenance) -> None:
        """Copy a finished video, with a signed manifest in it, to `signed`.

        The copy appears under its name when it is complete. Pictures and sound stay as they are.

        Raises:
            ValueError: If the library cannot sign.
        """
        partial = signed.with_name(f".partial-{signed.name}")
        failure = f"The video for {signed} could not be signed"
        remedy = "Run the same command again: what is rendered is kept, only the signing is left."
        try:
            with (
                video.open("rb") as source,
                partial.open("w+b") as target,
                explained(failure, remedy),
            ):
                self._sign(manifest_of(provenance), video.suffix.lower()[1:], source, target)
            os.replace(partial, signed)
        finally:
            partial.unlink(missing_ok=True)

    def _try_out(self, certificate: Path, key: Path) -> None:
        pixel = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
        server = f", and a time-stamp server at {self.timestamp_url}" if self.timestamp_url else ""
        expected = (
            "Expected a certificate of C2PA's profile (valid today, with the key usage"
            " digitalSignature and an extended key usage such as emailProtection, issued by another"
            f" certificate){server}. Correct what the message names."
        )
        with explained(f"A trial signature with {certificate} and {key} failed", expected):
            self._sign({"assertions": [actions(CREATED)]}, "png", BytesIO(pixel), BytesIO())

    def _sign(
        self,
        manifest: dict[str, object],
        file_format: str,
        source: BufferedIOBase,
        target: BufferedIOBase,
    ) -> None:
        import c2pa  # pyright: ignore[reportMissingImports]

        info = c2pa.C2paSignerInfo(self.algorithm, self.chain_pem, self.key_pem, self.timestamp_url)
        with (
            c2pa.Settings.from_dict(SETTINGS) as settings,
            c2pa.Context(settings) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder.from_json(manifest, context) as builder,
        ):
            builder.sign(signer, file_format, source, target)


def require_extra() -> None:
    """Check that the extra is installed.

    Raises:
        ValueError: If it is not.
    """
    try:
        import c2pa  # noqa: F401  # pyright: ignore[reportMissingImports]
        import cryptography  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"Content Credentials need the package {error.name}, which is not installed. Run"
            " `pip install 'gaussiantalker-ns[c2pa]'`, or drive without --c2pa-certificate."
        ) from error


@contextmanager
def explained(failure: str, remedy: str) -> Iterator[None]:
    """Turn the library's errors into a `ValueError` that also says what to do."""
    import c2pa  # pyright: ignore[reportMissingImports]

    try:
        yield
    except c2pa.C2paError as error:
        raise ValueError(f"{failure}: {error}. {remedy}") from error


def read_chain(path: Path) -> list[Any]:
    """Read the certificates of a PEM file in the file's order.

    Raises:
        ValueError: If there are none, or one cannot be read.
    """
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as certificates ({error}); expected PEM blocks that begin with"
            " -----BEGIN CERTIFICATE-----, the signer's own first. Export the chain as PEM."
        ) from error


def read_key(path: Path) -> Any:
    """Read a private key from a PEM file.

    Raises:
        ValueError: If there is none, or a passphrase protects it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except TypeError as error:  # What the library raises where a passphrase is wanted.
        raise ValueError(
            f"The key in {path} is protected by a passphrase; expected one without. Write a copy"
            f" that only you can read: `openssl pkey -in {path.name} -out plain.pem`."
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{path} cannot be read as a private key ({error}); expected a PEM block such as"
            " -----BEGIN PRIVATE KEY-----. Export the certificate's key as PEM."
        ) from error


def algorithm_of(private_key: Any, path: Path) -> str:
    """Choose the signature algorithm that goes with a key, such as es256 for the curve P-256.

    Raises:
        ValueError: If C2PA has none for it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private_key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private_key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private_key, ec.EllipticCurvePrivateKey):
        if private_key.curve.name in CURVE_ALGORITHMS:
            return CURVE_ALGORITHMS[private_key.curve.name]
    raise ValueError(
        f"The key in {path} is of a kind that C2PA does not sign with"
        f" ({type(private_key).__name__}); expected an elliptic curve P-256, P-384 or P-521,"
        " Ed25519, or RSA. Ask for a certificate with such a key."
    )


def actions(action: dict[str, object]) -> dict[str, object]:
    """Make the assertion that lists what was done, which is one action here.

    "created" has the signer vouch for it, as the standard asks.
    """
    return {"label": "c2pa.actions", "data": {"actions": [action]}, "created": True}


def manifest_of(provenance: Provenance) -> dict[str, object]:
    """Describe the video in C2PA's words: what made it, and our own record."""
    generator = {
        "name": "gaussiantalker-ns",
        "version": provenance.versions["gaussiantalker-ns"],
    }
    record = {
        "label": PROVENANCE_LABEL,
        "data": asdict(provenance),
        "kind": "Json",
        "created": True,
    }
    created = {**CREATED, "when": provenance.created, "softwareAgent": generator}
    return {
        "title": provenance.container_metadata()["title"],
        "claim_generator_info": [generator],
        "assertions": [actions(created), record],
    }
