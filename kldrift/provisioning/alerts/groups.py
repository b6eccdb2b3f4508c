"""All the alerts, in their groups."""

from kldrift.provisioning.alerts.daemon import daemon_alerts, down_alert
from kldrift.provisioning.alerts.drift import drift_alerts
from kldrift.provisioning.alerts.rule import Group, RuleOptions, Watched, ages
from kldrift.provisioning.alerts.samples import can_be_late, intake_alerts


def rule_groups(watched: Watched | None, options: RuleOptions) -> tuple[Group, ...]:
    """The groups for a configuration; with None, those that fit any (deploy/prometheus/kldrift.rules.yml)."""
    return (
        Group("kldrift-drift", tuple(drift_alerts(watched, options))),
        Group(
            "kldrift-daemon",
            (down_alert(options), *intake_alerts(watched, options), *daemon_alerts(watched, options)),
        ),
    )


def left_out(watched: Watched) -> list[str]:
    """Alerts that this configuration has no use for, each with the reason."""
    found = {
        "KldriftManyFeaturesDrift": (
            all(len(monitor.features) < 3 for monitor in watched.monitors),
            "no monitor has three features",
        ),
        "KldriftNoSamples": (
            all(map(watched.is_replay, watched.monitors)),
            "all sources are read to their end once, and are silent from then on",
        ),
        "KldriftReferenceStale": (
            not any(map(ages, watched.monitors)),
            "every reference is written out in the configuration, or moves on with time",
        ),
        "KldriftSamplesLate": (not can_be_late(watched), "samples have the time at which they arrive"),
        "KldriftSourceDown": (not watched.sources, "there is no pull source"),
        "KldriftLagHigh": (
            not any(source.lag_unit for source in watched.sources),
            "there is no source that knows how far behind it is",
        ),
        "KldriftStateNotWritten, KldriftStateDamaged": (not watched.has_state, "no state is kept"),
        "KldriftCertificateExpires": (not watched.has_tls, "there is no TLS"),
    }
    return [f"{name}: {reason}" for name, (is_left_out, reason) in found.items() if is_left_out]
