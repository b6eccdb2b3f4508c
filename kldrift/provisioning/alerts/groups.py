"""All alerts, in groups."""

from kldrift.provisioning.alerts.daemon import daemon_alerts, down_alert
from kldrift.provisioning.alerts.drift import drift_alerts
from kldrift.provisioning.alerts.rule import Group, RuleOptions, Watched, ages
from kldrift.provisioning.alerts.samples import can_be_late, intake_alerts


def rule_groups(watched: Watched | None, options: RuleOptions) -> tuple[Group, ...]:
    """Return the groups for a configuration; for None, those for any (deploy/prometheus/kldrift.rules.yml)."""
    return (
        Group("kldrift-drift", tuple(drift_alerts(watched, options))),
        Group(
            "kldrift-daemon",
            (down_alert(options), *intake_alerts(watched, options), *daemon_alerts(watched, options)),
        ),
    )


def left_out(watched: Watched) -> list[str]:
    """Return the alerts that nothing in this configuration could trigger, each with the reason."""
    found = {
        "KldriftManyFeaturesDrift": (
            all(len(monitor.features) < 3 for monitor in watched.monitors),
            "no monitor has three features or more",
        ),
        "KldriftNoSamples": (
            all(map(watched.is_replay, watched.monitors)),
            "every source is read to its end once and is silent afterwards",
        ),
        "KldriftReferenceStale": (
            not any(map(ages, watched.monitors)),
            "every reference is given in the configuration or moves with time",
        ),
        "KldriftSamplesLate": (not can_be_late(watched), "samples are timed by their arrival"),
        "KldriftSourceDown, KldriftSourceBytesLost": (not watched.sources, "there is no pull source"),
        "KldriftLagHigh": (
            not any(source.lag_unit for source in watched.sources),
            "no source reports how far behind it is",
        ),
        "KldriftStateNotWritten, KldriftStateDamaged": (not watched.has_state, "there is no state file"),
        "KldriftCertificateExpires": (not watched.has_tls, "TLS is not configured"),
    }
    return [f"{name}: {reason}" for name, (is_left_out, reason) in found.items() if is_left_out]
