"""HTTPS: certificates of a test authority, handshakes that fail or never end, and new certificates on SIGHUP."""

import logging
import re
import signal
import socket
import ssl
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import openai
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from serving import configured, running_server, serving

from embergem.client import Client
from embergem.config import EmbeddingEntry, Settings, read_config
from embergem.errors import InvalidConfig
from embergem.options import LoadOptions
from embergem.server import run, tls
from embergem.server.run import bind, make_server, reload
from embergem.server.signals import RELOAD
from embergem.server.state import ServerState
from embergem.server.tls import Certificate, read_certificate

QUIET = {"log_level": "critical", "access_log": "off"}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority):
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def write(directory, certificate, name="server"):
    """Write a certificate chain and its key; return both paths."""
    chain, key = directory / f"{name}.crt", directory / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return chain, key


@pytest.fixture
def files(authority, tmp_path):
    """The files of a certificate and its key."""
    return write(tmp_path, authority.issue_cert("localhost", "127.0.0.1"))


@pytest.fixture
def serve_tls(registry, files):
    """Return a context manager that serves over TLS; it yields (address, state)."""

    @contextmanager
    def started(**settings):
        state = ServerState(registry, Settings(**QUIET, **settings), certificate=Certificate(*files))
        with serving(state) as url:
            yield url.replace("http:", "https:"), state

    return started


def place(url):
    host, port = url.removeprefix("https://").split(":")
    return host, int(port)


def connect(url, trusting):
    return trusting.wrap_socket(socket.create_connection(place(url)), server_hostname="localhost")


def closed(raw):
    """Return whether the server closes a connection without a response."""
    raw.settimeout(30)
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:
        return True


def get(url, trusting):
    return httpx.get(f"{url}/health", verify=trusting, timeout=30)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request, monkeypatch):
    """Run the server with each event loop."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    configure = run.uvicorn.Config
    monkeypatch.setattr(run.uvicorn, "Config", lambda *args, **kwargs: configure(*args, **kwargs, loop=request.param))


# Requests


def test_openais_client_gets_vectors(loop, serve_tls, trusting):
    with serve_tls() as (url, _), httpx.Client(verify=trusting) as http:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", http_client=http)
        for _ in range(2):
            assert len(client.embeddings.create(model="default", input=["a", "b"]).data) == 2


def test_large_requests_and_responses_arrive_whole(loop, serve_tls, trusting):
    texts = [f"{number} " + "a" * 2000 for number in range(1000)]
    with serve_tls() as (url, _), httpx.Client(base_url=url, verify=trusting, timeout=60) as http:
        answer = http.post("/v1/tokenize", json={"input": texts})
        assert [len(answer.json()["data"]), len(answer.content) > 1 << 17] == [1000, True]
        assert http.post("/v1/tokenize", json={"input": "a" * 100, "task": "none of these"}).status_code == 400


def test_bytes_that_arrive_with_the_end_of_the_handshake_are_read(loop, serve_tls, trusting):
    """A client may send its first request together with the last message of its handshake."""
    with serve_tls() as (url, _), socket.create_connection(place(url)) as raw:
        raw.settimeout(30)
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(received, sent, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        raw.sendall(sent.read())
        while True:
            received.write(raw.recv(1 << 16))
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
        client.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw.sendall(sent.read())  # the end of the handshake and the request, in one segment
        answer = b""
        while b"}" not in answer:
            received.write(raw.recv(1 << 16))
            try:
                answer += client.read(1 << 16)
            except ssl.SSLWantReadError:
                continue
        assert answer.startswith(b"HTTP/1.1 200")


def test_a_program_on_the_same_machine_may_manage_models(serve_tls, trusting):
    """The documentation page of https://localhost is no page of another origin."""
    with serve_tls() as (url, _):
        host = url.removeprefix("https://")
        for origin, status in ((f"https://{host}", 200), (f"http://{host}", 403), (None, 200)):
            answer = httpx.post(
                f"{url}/v1/models/status", json={"model_id": "default"}, verify=trusting,
                headers={} if origin is None else {"origin": origin},
            )  # fmt: skip
            assert answer.status_code == status


def test_embergems_client_takes_the_authority_from_the_environment(serve_tls, authority, tmp_path, monkeypatch):
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with serve_tls() as (url, _), Client(url) as client:
        assert client.embed(["a"]).shape == (1, client.dimensions)


def test_the_server_refuses_old_versions_of_tls(serve_tls, trusting):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with serve_tls() as (url, _), socket.create_connection(place(url)) as raw:
        with pytest.raises(ssl.SSLError):
            old.wrap_socket(raw)
        assert get(url, trusting).status_code == 200


# Handshakes that fail


def test_connections_without_a_handshake_hold_no_place(loop, serve_tls, trusting):
    """Plain HTTP, garbage, a half handshake and silence, many times more than `max_connections`."""
    openings = [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"", b"\x00" * 1000]
    with serve_tls(max_connections=2) as (url, _):
        opened = []
        for number in range(20):
            opened.append(socket.create_connection(place(url)))
            opened[-1].sendall(openings[number % len(openings)])
        assert get(url, trusting).status_code == 200
        for connection in opened:
            connection.close()
        assert get(url, trusting).status_code == 200


def test_the_log_names_the_client_whose_handshake_failed(serve_tls, caplog):
    caplog.set_level(logging.INFO, "embergem.server")
    with serve_tls() as (url, _), socket.create_connection(place(url)) as raw:
        raw.sendall(b"\x00" * 1000)
        assert closed(raw)
    assert re.search(r"The TLS handshake with 127\.0\.0\.1 failed: .*[A-Z]", caplog.text)


def test_a_handshake_that_never_ends_is_given_up(loop, serve_tls, monkeypatch):
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT", 0.1)
    with serve_tls() as (url, _), socket.create_connection(place(url)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert closed(raw)


def test_a_new_connection_does_not_end_one_that_is_used(loop, serve_tls, trusting):
    """A connection in a request keeps its place, and the next client is told that the server is full."""
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n"
    with serve_tls(max_connections=1) as (url, _), connect(url, trusting) as used:
        used.sendall(head)
        assert b"100 Continue" in used.recv(1000)
        with socket.create_connection(place(url)):
            assert get(url, trusting).json()["error"]["code"] == "too_many_connections"
        used.sendall(b'{"input": "a"}')
        assert used.recv(1000).startswith(b"HTTP/1.1 200")


def test_plain_http_is_answered_with_the_scheme_to_use(loop, serve_tls, trusting):
    with serve_tls(max_connections=1) as (url, _):
        for _ in range(3):  # the connection does not hold its place
            answer = httpx.get(url.replace("https:", "http:") + "/health", timeout=30)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "invalid_http"
            assert "https://" in answer.json()["error"]["message"]
            assert answer.headers["connection"] == "close"
        assert get(url, trusting).status_code == 200


def test_a_handshake_may_arrive_a_byte_at_a_time(loop, serve_tls, trusting):
    with serve_tls() as (url, _), socket.create_connection(place(url)) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(received, sent, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        for byte in sent.read():
            raw.sendall(bytes([byte]))
        raw.settimeout(30)
        assert raw.recv(1) == b"\x16"


def test_a_client_that_goes_before_its_handshake_leaves_nothing(loop, registry, files):
    state = ServerState(registry, Settings(**QUIET), certificate=Certificate(*files))
    with bind("127.0.0.1", 0) as listener, running_server(server := make_server(state), listener):
        until = time.monotonic() + 10
        with socket.create_connection(listener.getsockname()):
            while not server.server_state.connections:
                assert time.monotonic() < until, "the server did not accept the connection"
                time.sleep(0.001)
        while server.server_state.connections and time.monotonic() < until:
            time.sleep(0.001)
        assert not server.server_state.connections


def test_the_server_stops_during_a_handshake(loop, registry, files):
    state = ServerState(registry, Settings(**QUIET, drain_timeout=1e6), certificate=Certificate(*files))
    with bind("127.0.0.1", 0) as listener, running_server(server := make_server(state), listener):
        raw = socket.create_connection(listener.getsockname())
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")
        while not server.server_state.connections:
            time.sleep(0.001)
    assert closed(raw)
    raw.close()


# Certificates


def test_a_reload_changes_the_certificate_of_later_connections(loop, serve_tls, files, authority, trusting, tmp_path):
    def serial(connection):
        return connection.getpeercert()["serialNumber"]

    with serve_tls() as (url, state), connect(url, trusting) as old:
        write(tmp_path, authority.issue_cert("localhost"))
        with connect(url, trusting) as unchanged:
            assert serial(unchanged) == serial(old)
        reload(state, tuple)
        with connect(url, trusting) as new:
            assert serial(new) != serial(old)
        old.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert old.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(RELOAD is None, reason="this system has no SIGHUP")
def test_sighup_reads_the_certificate_again(serve_tiny, files, authority, trusting, tmp_path):
    chain, key = map(str, files)
    found = []

    def serial(url):
        with connect(url, trusting) as connection:
            return connection.getpeercert()["serialNumber"]

    def announce(line):
        if address := re.match(r"listening on (https://[^/]+)", line):
            try:
                found.append(serial(address[1]))
                write(tmp_path, authority.issue_cert("localhost"))
                signal.raise_signal(RELOAD)
                end = time.monotonic() + 30
                while found[-1] == found[0] and time.monotonic() < end:  # the handler runs on the main thread
                    found.append(serial(address[1]))
            finally:
                signal.raise_signal(signal.SIGTERM)

    assert serve_tiny(announce=announce, tls_cert=chain, tls_key=key)
    assert found[-1] != found[0]


@pytest.mark.parametrize("damage", ["other key", "no file", "empty file"])
def test_a_failed_reload_keeps_the_certificate(serve_tls, files, authority, trusting, tmp_path, caplog, damage):
    with serve_tls() as (url, state):
        chain, key = files
        if damage == "other key":
            _, other = write(tmp_path, authority.issue_cert("localhost"), "other")
            key.write_bytes(other.read_bytes())
        elif damage == "no file":
            key.unlink()
        else:
            chain.write_bytes(b"")
        with caplog.at_level(logging.INFO, "embergem.server"):
            reload(state, tuple)
        assert "The certificate was not reloaded, and the previous one stays in force: tls_" in caplog.text
        assert "The API keys were reloaded." in caplog.text
        assert get(url, trusting).status_code == 200


def refusal(chain, key):
    with pytest.raises(InvalidConfig) as caught:
        read_certificate(chain, key)
    return caught.value.message


def test_a_key_of_another_certificate_is_refused(files, authority, tmp_path):
    _, other = write(tmp_path, authority.issue_cert("localhost"), "other")
    message = refusal(files[0], other)
    assert message.startswith(f"tls_key: the key {other} does not belong to the certificate {files[0]}.")


def test_a_chain_in_the_wrong_order_is_refused(files, authority):
    chain, key = files
    chain.write_bytes(authority.cert_pem.bytes() + chain.read_bytes())
    assert "The first certificate of that file must be the server's own." in refusal(chain, key)


def test_an_encrypted_key_is_refused_without_a_question(files):
    chain, key = files
    plain = load_pem_private_key(key.read_bytes(), None)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        key.write_bytes(plain.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
        message = refusal(chain, key)
        assert "is encrypted with a passphrase" in message
        assert f"openssl pkey -in {key}" in message


def test_files_that_are_missing_or_of_another_kind_are_refused(files, tmp_path):
    chain, key = files
    assert (
        refusal(tmp_path / "none", key)
        == f"tls_cert: the file {tmp_path / 'none'} cannot be read: No such file or directory."
    )
    assert refusal(chain, tmp_path) == f"tls_key: the file {tmp_path} cannot be read: Is a directory."
    assert refusal(key, chain).startswith(f"tls_cert: the file {key} has no line `-----BEGIN CERTIFICATE-----`.")
    assert refusal(chain, chain).startswith(f"tls_key: the file {chain} has no line")
    chain.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "cannot be used" in refusal(chain, key)


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (-9 * DAY, -DAY, "expired at"),
        (DAY, 9 * DAY, "is not valid before"),
        (-DAY, 9 * DAY, "Renew it, then send SIGHUP."),
        (-DAY, 99 * DAY, None),
    ],
)
def test_the_log_warns_of_the_dates_of_a_certificate(authority, tmp_path, caplog, begin, end, words):
    now = datetime.now(UTC)
    files = write(tmp_path, authority.issue_cert("localhost", not_before=now + begin, not_after=now + end))
    with caplog.at_level(logging.WARNING, "embergem.server"):
        read_certificate(*files)
    assert words in caplog.text if words else not caplog.records


def test_all_kinds_of_keys_and_intermediate_authorities_are_read(authority, tmp_path, caplog):
    between = authority.create_child_ca()
    for number, kind in enumerate(trustme.KeyType):
        read_certificate(*write(tmp_path, between.issue_cert("localhost", key_type=kind), str(number)))
    assert not caplog.records


# Settings


def test_the_settings_come_in_pairs_from_every_place(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('[server]\ntls_cert = "server.crt"\ntls_key = "/keys/server.key"\n')
    settings = read_config(file, {}, {}).settings
    assert (settings.tls_cert, settings.tls_key) == (str(tmp_path / "server.crt"), "/keys/server.key")
    settings = read_config(file, {"EMBERGEM_TLS_CERT": "env.crt"}, {"tls_key": "flag.key"}).settings
    assert (settings.tls_cert, settings.tls_key) == ("env.crt", "flag.key")
    for environ, flags in (({"EMBERGEM_TLS_KEY": "a"}, {}), ({}, {"tls_key": "a"})):
        with pytest.raises(InvalidConfig, match="tls_key is set and tls_cert is not"):
            read_config(None, environ, flags)
    with pytest.raises(InvalidConfig, match="tls_cert is set and tls_key is not"):
        read_config(None, {"EMBERGEM_TLS_CERT": "a"}, {})
    for empty in ("EMBERGEM_TLS_CERT", "EMBERGEM_TLS_KEY"):
        with pytest.raises(InvalidConfig, match=empty):
            read_config(file, {empty: ""}, {})


def test_the_settings_make_a_server_of_https(tiny, files, trusting):
    chain, key = files
    entry = EmbeddingEntry(name="tiny", options=LoadOptions(model=str(tiny)), lazy=True)
    settings = Settings(**QUIET, tls_cert=str(chain), tls_key=str(key))
    with configured(entry, settings=settings) as (url, _):
        assert get(url.replace("http:", "https:"), trusting).status_code == 200
    key.unlink()
    with pytest.raises(InvalidConfig, match="tls_key"), configured(entry, settings=settings):
        pass
