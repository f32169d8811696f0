"""Content Credentials: what is signed can be read back, and what cannot sign says so at once.

The certificates are made here and nobody trusts them: a reader calls the manifest valid and its
signer untrusted.
"""

import json
import sys
from datetime import datetime, timedelta, timezone

import av
import numpy as np
import pytest
from test_drive import FrameCounter
from test_provenance import record

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.inference.content_credentials import PROVENANCE_LABEL, ContentCredentials
from gaussiantalker_ns.inference.drive_job import DriveJob
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.video_writer import SegmentWriter, assemble
from gaussiantalker_ns.scripts import drive

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def new_key(kind="secp256r1"):
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves = {"secp256r1": ec.SECP256R1, "secp384r1": ec.SECP384R1, "secp256k1": ec.SECP256K1}
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ed25519.Ed25519PrivateKey.generate()


def certificate_of(key, issuer_key, is_authority, valid_days=1):
    """A certificate of C2PA's profile, or of an authority that issues them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(sampler):
        pairs = ((NameOID.ORGANIZATION_NAME, "Test"), (NameOID.COMMON_NAME, sampler))
        return x509.Name([x509.NameAttribute(*pair) for pair in pairs])

    usage = dict.fromkeys(
        (
            "content_commitment key_encipherment data_encipherment key_agreement"
            " encipher_only decipher_only"
        ).split(),
        False,
    )
    usage |= dict(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority
    )
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named("authority" if is_authority else "signer"))
        .issuer_name(named("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(is_authority, None), True)
        .add_extension(x509.KeyUsage(**usage), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if not is_authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, False)
    return builder.sign(issuer_key, hashes.SHA256())


def key_bytes(key, form="PKCS8", passphrase=None):
    from cryptography.hazmat.primitives import serialization

    protection = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), protection
    )


def chain_bytes(*certificates):
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def write_chain(folder, kind="secp256r1", valid_days=1):
    """Write `chain.pem` and `key.pem` of a new signer under a new authority."""
    authority, signer = new_key(), new_key(kind)
    chain = (
        certificate_of(signer, authority, False, valid_days),
        certificate_of(authority, authority, True),
    )
    (folder / "chain.pem").write_bytes(chain_bytes(*chain))
    (folder / "key.pem").write_bytes(key_bytes(signer))
    return folder / "chain.pem", folder / "key.pem"


def small_video(path, level=90):
    """Write ten silent frames with the marks that every driven video has."""
    segment = path.with_name(f"segment{path.suffix}")
    channels = 4 if path.suffix == ".mov" else 3
    with SegmentWriter(segment, 64, 64) as writer:
        for index in range(10):
            writer.write(np.full((64, 64, channels), level + index, np.uint8))
    assemble([segment], path, None, 10, record().container_metadata())
    segment.unlink()
    return path


def pixels(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_back(path):
    """The whole report of C2PA's reader, without the network."""
    import c2pa

    from gaussiantalker_ns.inference.content_credentials import SETTINGS

    context = c2pa.Context(c2pa.Settings.from_dict(SETTINGS))
    with path.open("rb") as file, c2pa.Reader(path.suffix[1:], file, context=context) as reader:
        return json.loads(reader.detailed_json()), reader.get_validation_state()


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_signed_video_says_how_it_was_made_and_plays_as_before(tmp_path, suffix):
    pytest.importorskip("c2pa")
    video, signed = small_video(tmp_path / f"plain{suffix}"), tmp_path / f"signed{suffix}"
    ContentCredentials.load(*write_chain(tmp_path)).sign(video, signed, record())
    report, state = read_back(signed)
    assert state == "Valid"
    manifest = report["manifests"][report["active_manifest"]]
    generator = manifest["claim"]["claim_generator_info"]
    version = record().versions["gaussiantalker-ns"]
    assert (generator["name"], generator["version"]) == ("gaussiantalker-ns", version)
    store = manifest["assertion_store"]
    action = store["c2pa.actions.v2"]["actions"][0]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", TRAINED)
    sidecar = json.loads(record().write_sidecar(signed).read_text())
    assert {**store[PROVENANCE_LABEL], "created": ""} == {**sidecar, "created": ""}
    created = {entry["url"].rsplit("/")[-1] for entry in manifest["claim"]["created_assertions"]}
    assert {"c2pa.actions.v2", PROVENANCE_LABEL} <= created
    np.testing.assert_array_equal(pixels(signed), pixels(video))
    with av.open(str(signed)) as after, av.open(str(video)) as before:
        assert dict(after.metadata) == dict(before.metadata)
    assert not list(tmp_path.glob(".partial-*"))


def test_changed_video_is_found_out(tmp_path):
    pytest.importorskip("c2pa")
    video, signed = small_video(tmp_path / "plain.mp4"), tmp_path / "signed.mp4"
    ContentCredentials.load(*write_chain(tmp_path)).sign(video, signed, record())
    content = bytearray(signed.read_bytes())
    content[content.rindex(b"mdat") + 40] ^= 1
    signed.write_bytes(content)
    assert read_back(signed)[1] == "Invalid"


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("secp384r1", "es384"), ("rsa", "ps256"), ("ed25519", "ed25519")]
)
def test_algorithm_follows_from_the_key(tmp_path, kind, algorithm):
    pytest.importorskip("c2pa")
    credentials = ContentCredentials.load(*write_chain(tmp_path, kind))
    assert credentials.algorithm == algorithm
    assert "PRIVATE" not in repr(credentials)


def test_keys_as_openssl_writes_them_by_default_are_read(tmp_path):
    pytest.importorskip("c2pa")
    authority, signer = new_key(), new_key()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(chain_bytes(certificate_of(signer, authority, False)))
    key.write_bytes(key_bytes(signer, "TraditionalOpenSSL"))
    assert b"BEGIN EC PRIVATE KEY" in key.read_bytes()
    assert ContentCredentials.load(chain, key).algorithm == "es256"


@pytest.fixture
def wav(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    write_wav(tmp_path / "speech.wav", samples.astype(np.float32))
    return tmp_path / "speech.wav"


def test_job_signs_last_and_a_failure_renders_nothing_again(tmp_path, wav, monkeypatch):
    c2pa = pytest.importorskip("c2pa")
    output = tmp_path / "talk.mp4"
    job = DriveJob(wav, output, credentials=ContentCredentials.load(*write_chain(tmp_path)))

    def refuse(*arguments):
        raise c2pa.C2paError("the pen is broken")

    with monkeypatch.context() as broken, pytest.raises(ValueError, match="pen is broken.*again"):
        broken.setattr(c2pa.Builder, "sign", refuse)
        job.run(FrameCounter(tmp_path))
    assert not output.exists() and not list(tmp_path.glob(".partial-*"))
    talker = FrameCounter(tmp_path)
    job.run(talker)
    assert talker.rendered == []
    report, state = read_back(output)
    assert state == "Valid"
    store = report["manifests"][report["active_manifest"]]["assertion_store"]
    sidecar = json.loads((tmp_path / "talk.mp4.provenance.json").read_text())
    assert store[PROVENANCE_LABEL] == sidecar
    assert len(pixels(output)) == 25
    assert not (tmp_path / ".talk.mp4.parts").exists()


def test_parts_of_an_unsigned_job_serve_a_signed_one(tmp_path, wav, monkeypatch):
    pytest.importorskip("c2pa")
    monkeypatch.setattr("gaussiantalker_ns.inference.drive_job.SEGMENT_FRAMES", 8)
    output = tmp_path / "talk.mp4"
    with pytest.raises(KeyboardInterrupt):
        DriveJob(wav, output).run(FrameCounter(tmp_path, stop_at=19))
    talker = FrameCounter(tmp_path)
    DriveJob(wav, output, credentials=ContentCredentials.load(*write_chain(tmp_path))).run(talker)
    assert talker.rendered == list(range(16, 25))
    assert read_back(output)[1] == "Valid"


def test_drive_signs_with_the_files_that_its_options_name(tmp_path, wav, monkeypatch):
    pytest.importorskip("c2pa")
    monkeypatch.setattr(Talker, "load", lambda *arguments: FrameCounter(tmp_path))
    chain, key = write_chain(tmp_path)
    output = tmp_path / "talk.mp4"
    config = drive.Config(
        load_config=tmp_path, audio=(wav,), output=output, c2pa_certificate=chain, c2pa_key=key
    )
    assert drive.run(config) == 0
    assert read_back(output)[1] == "Valid"


def test_pictures_cannot_be_signed(tmp_path, wav):
    credentials = ContentCredentials("es256", b"", b"")
    with pytest.raises(ValueError, match=r"folder of pictures.*\.mp4 or \.mov"):
        DriveJob(wav, tmp_path / "pictures", credentials=credentials)


def test_key_of_another_certificate_is_refused(tmp_path):
    pytest.importorskip("c2pa")
    chain, key = write_chain(tmp_path)
    key.write_bytes(key_bytes(new_key()))
    with pytest.raises(ValueError, match="does not belong to the first certificate.*CN=signer"):
        ContentCredentials.load(chain, key)


def test_certificate_that_has_expired_is_refused_before_rendering(tmp_path):
    pytest.importorskip("c2pa")
    with pytest.raises(ValueError, match="trial signature.*not valid at time of signing"):
        ContentCredentials.load(*write_chain(tmp_path, valid_days=-1))


def test_time_stamp_server_that_does_not_answer_is_named_before_rendering(tmp_path):
    pytest.importorskip("c2pa")
    nobody = "http://127.0.0.1:9/stamp"
    with pytest.raises(ValueError, match=f"time-stamp server at {nobody}"):
        ContentCredentials.load(*write_chain(tmp_path), nobody)


def test_files_that_hold_something_else_are_refused(tmp_path):
    pytest.importorskip("c2pa")
    chain, key = write_chain(tmp_path)
    good = key.read_bytes()
    key.write_bytes(key_bytes(new_key(), passphrase=b"secret"))
    with pytest.raises(ValueError, match="protected by a passphrase"):
        ContentCredentials.load(chain, key)
    key.write_text("nothing")
    with pytest.raises(ValueError, match="cannot be read as a private key"):
        ContentCredentials.load(chain, key)
    key.write_bytes(good)
    chain.write_text("nothing")
    with pytest.raises(ValueError, match="cannot be read as certificates"):
        ContentCredentials.load(chain, key)
    with pytest.raises(ValueError, match="does not sign with"):
        ContentCredentials.load(*write_chain(tmp_path, "secp256k1"))


def refused_by_drive(tmp_path, wav, monkeypatch, **options):
    """Run `drive` with a loader that must not be reached; return the error's message."""

    def load(*arguments):
        raise AssertionError("The run was loaded before the credentials were checked.")

    monkeypatch.setattr(Talker, "load", load)
    output = tmp_path / "talk.mp4"
    config = drive.Config(load_config=tmp_path, audio=(wav,), output=output, **options)
    with pytest.raises((ValueError, OSError)) as refused:
        drive.run(config)
    assert not output.exists()
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"c2pa_certificate": "chain.pem"}, "--c2pa-key"),
        ({"c2pa_key": "key.pem"}, "--c2pa-certificate"),
        ({"c2pa_timestamp_url": "http://127.0.0.1:9"}, "--c2pa-certificate and --c2pa-key"),
    ],
)
def test_options_that_lack_another_say_so(tmp_path, wav, monkeypatch, given, missing):
    options = {
        name: value if name.endswith("url") else tmp_path / value for name, value in given.items()
    }
    printed = refused_by_drive(tmp_path, wav, monkeypatch, **options)
    assert f"without {missing};" in printed


def test_missing_files_are_named_before_rendering(tmp_path, wav, monkeypatch):
    options = {"c2pa_certificate": tmp_path / "no.pem", "c2pa_key": tmp_path / "key.pem"}
    printed = refused_by_drive(tmp_path, wav, monkeypatch, **options)
    assert "No certificate chain at" in printed
    options["c2pa_certificate"].write_text("")
    printed = refused_by_drive(tmp_path, wav, monkeypatch, **options)
    assert "No private key at" in printed


def test_missing_extra_says_what_to_install(tmp_path, wav, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    options = {"c2pa_certificate": tmp_path / "chain.pem", "c2pa_key": tmp_path / "key.pem"}
    for path in options.values():
        path.write_text("")
    printed = refused_by_drive(tmp_path, wav, monkeypatch, **options)
    assert "pip install 'gaussiantalker-ns[c2pa]'" in printed
