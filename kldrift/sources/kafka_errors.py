"""What the errors of the Kafka client mean to a user."""

from confluent_kafka import KafkaError

from kldrift.errors import SourceError

DENIED = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - the codes of the library itself begin with _
    KafkaError._SSL,  # noqa: SLF001
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}
NO_TOPIC = {
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
DOWN = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT}  # noqa: SLF001


def source_error(name: str, error: KafkaError) -> SourceError:
    """Return what to report to the user about an error that stops reading for now."""
    code, text = error.code(), error.str()
    if code in DENIED:
        return SourceError(f"{name}: the broker refuses us ({text}); check `security` and the access rights", "denied")
    if code in NO_TOPIC:
        return SourceError(
            f"{name}: expected an existing topic ({text}); create it, or correct `topic`", "unknown_topic"
        )
    if code in DOWN:
        return SourceError(f"{name}: no broker answers ({text}); check `brokers` and the network", "unreachable")
    return SourceError(f"{name}: {text} ({error.name()})", "broker")
