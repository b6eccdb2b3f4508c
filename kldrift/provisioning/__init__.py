"""What is generated for other systems: alerting rules for Prometheus, dashboards for Grafana."""
