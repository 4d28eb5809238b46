web: bin/api -addr ":$PORT"
cron: while true; do bin/cleanup; sleep 3600; done
metrics: exec bin/metrics
