"""The servers under test: real processes on loopback that trust a throw-away authority."""

import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

START_SECONDS = 60
STOP_SECONDS = 20


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Authority:
    """A certificate authority that lives as long as the run, and one certificate for every server on loopback."""

    def __init__(self, directory):
        self.root, self.certificate, self.key = (
            directory / name for name in ("authority.pem", "certificate.pem", "key.pem"))
        authority_key, request = directory / "authority.key", directory / "request.pem"
        names = directory / "names.cnf"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self.openssl(
            "req", "-x509", *curve, "-days", "2", "-subj", "/CN=Throw-away authority", "-keyout", authority_key,
            "-out", self.root, "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self.openssl("req", "-new", *curve, "-subj", "/CN=localhost", "-keyout", self.key, "-out", request)
        self.openssl(
            "x509", "-req", "-in", request, "-CA", self.root, "-CAkey", authority_key, "-CAcreateserial", "-days", "2",
            "-extfile", names, "-out", self.certificate)

    @staticmethod
    def openssl(*arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"openssl failed: {done.stderr}")


class HomeServer:
    """A server as a process: `kill` is a crash, `start` goes on with the same data."""

    kind = None

    def __init__(self, label, host, directory, authority):
        self.label, self.directory, self.authority = label, directory, authority
        self.client_port, self.federation_port = free_port(), free_port()
        self.name = f"{host}:{self.federation_port}"
        self.url = f"http://127.0.0.1:{self.client_port}"
        self.log_path = directory / "output.log"
        self.process = None
        directory.mkdir(parents=True)
        self.prepare()

    def prepare(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def spawn(self):
        """Starts the process and does not wait for it to answer."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_until_it_answers(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/_matrix/client/versions", timeout=5) as answer:
                    self.versions = json.load(answer)
                    return
            except OSError as error:
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.label} ended with {self.process.returncode}; see {self.log_path}") from error
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{self.label} did not start: {error}; see {self.log_path}") from error
                time.sleep(0.05)

    def start(self):
        self.spawn()
        self.wait_until_it_answers()

    def kill(self):
        """Ends the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def federation_get(self, path):
        """What the server answers to another server that does not sign its request."""
        context = ssl.create_default_context(cafile=str(self.authority.root))
        with urllib.request.urlopen(f"https://{self.name}{path}", timeout=20, context=context) as answer:
            return json.load(answer)


class Natterjack(HomeServer):
    kind = "natterjack"

    def prepare(self):
        self.program = shutil.which(os.environ["NATTERJACK"])
        if not self.program:
            raise RuntimeError(f"{os.environ['NATTERJACK']} is not there: `cargo build` makes it")
        self.program = str(pathlib.Path(self.program).resolve())

    def command(self):
        return [self.program, "serve", "--server-name", self.name, "--data-dir", str(self.directory / "data")]

    def environment(self):
        files = f'tls_certificate="{self.authority.certificate}", tls_private_key="{self.authority.key}"'
        settings = {
            "LISTENERS": f'[{{bind="127.0.0.1:{self.client_port}", serve=["client", "metrics"]}}, '
                         f'{{bind="127.0.0.1:{self.federation_port}", serve=["federation"], {files}}}]',
            "REGISTRATION__ENABLED": "true",
            "RATE_LIMITS__ENABLED": "false",
            "PASSWORDS__MEMORY_KIB": "8",
            "PASSWORDS__ITERATIONS": "1",
            "FEDERATION__ALLOW_PRIVATE_ADDRESSES": "true",
            "FEDERATION__EXTRA_ROOT_CERTIFICATES": f'["{self.authority.root}"]',
            "LOG__FILTER": os.environ.get("NATTERJACK_LOG", "info,ruma_state_res=warn"),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NATTERJACK__")}
        return inherited | {f"NATTERJACK__{name}": value for name, value in settings.items()}


class Synapse(HomeServer):
    kind = "synapse"

    def prepare(self):
        unlimited = {"per_second": 100000, "burst_count": 100000}
        local_remote = {"local": unlimited, "remote": unlimited}
        listener = {"bind_addresses": ["127.0.0.1"], "type": "http"}
        config = {
            "server_name": self.name,
            "pid_file": str(self.directory / "pid"),
            "listeners": [
                listener | {"port": self.client_port, "resources": [{"names": ["client"]}]},
                listener | {"port": self.federation_port, "tls": True, "resources": [{"names": ["federation", "keys"]}]},
            ],
            "tls_certificate_path": str(self.authority.certificate),
            "tls_private_key_path": str(self.authority.key),
            "federation_custom_ca_list": [str(self.authority.root)],
            "federation_client_minimum_tls_version": "1.2",
            "ip_range_blocklist": [],
            "federation_ip_range_blacklist": [],
            "trusted_key_servers": [],
            "database": {"name": "sqlite3", "args": {"database": str(self.directory / "homeserver.db")}},
            "log_config": str(self.directory / "log.yaml"),
            "media_store_path": str(self.directory / "media"),
            "signing_key_path": str(self.directory / "signing.key"),
            "registration_shared_secret": "throw-away",
            "macaroon_secret_key": "throw-away",
            "form_secret": "throw-away",
            "report_stats": False,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "bcrypt_rounds": 4,
            "presence": {"enabled": True},
            "allow_public_rooms_over_federation": True,
            "allow_public_rooms_without_auth": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "limit_profile_requests_to_users_who_share_rooms": False,
            "suppress_key_server_warning": True,
            # A server that was killed is asked again at once, not in ten minutes.
            "federation": {
                "destination_min_retry_interval": 100, "destination_retry_multiplier": 1,
                "destination_max_retry_interval": "1s", "max_long_retries": 1, "max_short_retries": 1,
                "max_short_retry_delay": 200, "max_long_retry_delay": "1s", "client_timeout": "30s",
            },
            "rc_federation": {
                "window_size": 1000, "sleep_limit": 100000, "sleep_delay": 1, "reject_limit": 100000, "concurrent": 50},
            "rc_joins": local_remote,
            "rc_joins_per_room": unlimited,
            "rc_invites": {"per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited},
            "rc_login": {"address": unlimited, "account": unlimited, "failed_attempts": unlimited},
            "rc_presence": {"per_user": unlimited},
            "remote_media_download_burst_count": "500M",
        }
        for name in ("message", "registration", "registration_token_validity", "admin_redaction", "3pid_validation",
                     "third_party_invite", "media_create", "key_requests", "room_creation", "reports", "user_directory"):
            config[f"rc_{name}"] = unlimited
        # JSON is YAML.
        (self.directory / "homeserver.yaml").write_text(json.dumps(config, indent=1))
        (self.directory / "log.yaml").write_text(json.dumps({
            "version": 1,
            "formatters": {"line": {"format": "%(asctime)s %(name)s %(levelname)s %(request)s %(message)s"}},
            "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": os.environ.get("SYNAPSE_LOG", "INFO"), "handlers": ["console"]},
            "disable_existing_loggers": False,
        }))
        subprocess.run(
            [*self.command(), "--generate-keys"], cwd=self.directory, check=True, capture_output=True, timeout=START_SECONDS)

    def command(self):
        python = str(pathlib.Path(os.environ["SYNAPSE_VENV"]) / "bin/python")
        return [python, "-m", "synapse.app.homeserver", "--config-path", str(self.directory / "homeserver.yaml")]
