"""Derived configuration: the same routes, absolute paths, and a console where a channel has no secret."""

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tools.derive import relocate, replace_addresses, replace_secret, use_sink
from tools.servers import program

AWS = Path("/etc/am/secrets/aws")
ORIGINAL = """
global:
  slack_api_url_file: secrets/slack
  smtp_auth_password_file: secrets/smtp
templates: ['templates/*.tmpl']
route: {receiver: page, routes: [{receiver: notify, matchers: [severity="info"]}]}
receivers:
  - name: page
    pagerduty_configs: [{routing_key_file: secrets/pagerduty, severity: critical}]
    sns_configs: [{topic_arn: 'arn:aws:sns:eu-west-1:0:x', sigv4: {region: eu-west-1, profile: p}}]
    slack_configs: [{channel: '#incidents'}]
  - name: notify
    slack_configs: [{channel: '#incidents', api_url_file: secrets/other-slack}]
    email_configs: [{to: 'incidents@auraconnect.example'}]
  - name: beat
    webhook_configs: [{url: 'https://beat.example/', http_config: {authorization: {credentials_file: secrets/beat}}}]
  - name: open
    webhook_configs: [{url: 'https://open.example/'}]
"""


def derived(*secrets: str) -> dict[str, Any]:
    """Derive from ORIGINAL in /etc/am, where only these secrets exist; answer the receivers by name."""
    config = relocate(yaml.safe_load(ORIGINAL), Path("/etc/am"), {})
    present = {Path("/etc/am/secrets") / secret for secret in secrets}
    config = use_sink(config, "127.0.0.1:4000", AWS, present.__contains__)
    return {receiver["name"]: receiver for receiver in config["receivers"]}


def channels(receiver: dict[str, Any]) -> list[str]:
    """List the channels that a receiver's console webhook stands for."""
    (url,) = [hook["url"] for hook in receiver["webhook_configs"] if "127.0.0.1:4000" in hook["url"]]
    return parse_qs(urlsplit(url).query)["channel"]


class TestUseSink:
    def test_without_any_secret_each_receiver_has_one_console(self) -> None:
        """A notification is one page, whatever the number of its channels, and resolutions are shown too."""
        page = derived()["page"]
        assert set(page) == {"name", "webhook_configs"}
        assert channels(page) == ["PagerDuty", "SMS", "Slack #incidents"]
        assert [hook["send_resolved"] for hook in page["webhook_configs"]] == [True]
        assert urlsplit(page["webhook_configs"][0]["url"]).path == "/page"

    def test_a_channel_with_its_secret_stays(self) -> None:
        """Slack is configured, so it keeps its place, and the console stands for the others."""
        page = derived("slack")["page"]
        assert page["slack_configs"] == [{"channel": "#incidents"}]
        assert channels(page) == ["PagerDuty", "SMS"]

    def test_sms_needs_the_credentials_of_aws(self) -> None:
        """The file with the profile is what SNS has for a secret."""
        page = derived("aws")["page"]
        assert "sns_configs" in page
        assert channels(page) == ["PagerDuty", "Slack #incidents"]

    def test_an_entrys_own_secret_goes_before_the_shared_one(self) -> None:
        """A Slack entry with a file of its own does not count as configured by the global one."""
        notify = derived("slack", "smtp")["notify"]
        assert channels(notify) == ["Slack #incidents"]
        assert notify["email_configs"] == [{"to": "incidents@auraconnect.example"}]

    def test_a_webhooks_token_is_a_secret(self) -> None:
        """A secret deep in an entry counts; a webhook without one stays."""
        receivers = derived()
        assert channels(receivers["beat"]) == ["webhook"]
        assert receivers["open"]["webhook_configs"] == [{"url": "https://open.example/"}]

    def test_with_all_secrets_nothing_changes(self) -> None:
        """A complete installation is derived as it is."""
        all_secrets = ("slack", "smtp", "pagerduty", "aws", "other-slack", "beat")
        original = relocate(yaml.safe_load(ORIGINAL), Path("/etc/am"), {})
        assert list(derived(*all_secrets).values()) == original["receivers"]


def test_a_secret_of_our_own_takes_the_place_of_the_one_that_is_named() -> None:
    """Every entry that names the file names the other one instead; the rest stays."""
    config = replace_secret(yaml.safe_load(ORIGINAL), "beat", Path("/build/token"))
    changed = config["receivers"][2]["webhook_configs"][0]
    assert changed["http_config"]["authorization"] == {"credentials_file": "/build/token"}
    changed["http_config"]["authorization"]["credentials_file"] = "secrets/beat"
    assert config == yaml.safe_load(ORIGINAL)


class TestRelocate:
    def test_makes_paths_absolute_at_any_depth(self) -> None:
        """Files, lists of files and templates are found from another folder."""
        config = relocate(yaml.safe_load(ORIGINAL), Path("/etc/am"), {})
        assert config["templates"] == ["/etc/am/templates/*.tmpl"]
        assert config["global"]["slack_api_url_file"] == "/etc/am/secrets/slack"
        beat = config["receivers"][2]["webhook_configs"][0]
        assert beat["http_config"]["authorization"]["credentials_file"] == "/etc/am/secrets/beat"

    def test_keeps_absolute_paths(self) -> None:
        """Who names a file wherever it is keeps it."""
        assert relocate({"key_file": "/run/secret"}, Path("/etc/am"), {}) == {"key_file": "/run/secret"}

    def test_replaces_addresses_wherever_they_stand(self) -> None:
        """Targets and URLs follow a server that had to take another port; other ports stay."""
        config = {"targets": ["localhost:9850", "localhost:9090"], "url": "http://localhost:9850/hook", "n": 5}
        assert relocate(config, Path("/"), {"localhost:9850": "localhost:4001"}) == {
            "targets": ["localhost:4001", "localhost:9090"],
            "url": "http://localhost:4001/hook",
            "n": 5,
        }

    def test_replaces_addresses_in_text(self) -> None:
        """Rule files, which hold the base of the links, are replaced as text."""
        text = "url: http://localhost:9850\n"
        assert replace_addresses(text, {"localhost:9850": "localhost:1"}) == "url: http://localhost:1\n"


@pytest.mark.parametrize("release", ["oldest", "newest"])
def test_both_versions_accept_what_is_derived_from_the_repositorys_own(tmp_path: Path, release: str) -> None:
    """Alertmanager's own checker finds no fault in the real configuration without any secret."""
    source = Path("alertmanager/alertmanager.yml").absolute()
    config = relocate(yaml.safe_load(source.read_text(encoding="utf-8")), source.parent, {})
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(use_sink(config, "127.0.0.1:4000", AWS, lambda _: False)), encoding="utf-8")
    checked = subprocess.run(
        [program("amtool", release), "check-config", path], check=False, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")
