# The images of docker-compose.yml: `exporter`, small and without rights, and two that are made from it.
#   docker build --target exporter -t auraconnect-exporter .

FROM python:3.13-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/auraconnect
COPY requirements.lock /tmp/
RUN /opt/auraconnect/bin/pip install --require-hashes --requirement /tmp/requirements.lock

FROM packages AS demo-packages
COPY requirements-demo.lock /tmp/
RUN /opt/auraconnect/bin/pip install --require-hashes --requirement /tmp/requirements-demo.lock

FROM python:3.13-slim-bookworm AS exporter
# The number is what files on the host are given to: docs/docker.md.
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/auraconnect --create-home auraconnect
COPY --from=packages /opt/auraconnect /opt/auraconnect
COPY exporter /opt/auraconnect/src/exporter
COPY runbooks /opt/auraconnect/src/runbooks
ENV PATH=/opt/auraconnect/bin:$PATH \
    PYTHONPATH=/opt/auraconnect/src/exporter:/opt/auraconnect/src \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN python3 -m compileall -q /opt/auraconnect/src
USER 10001:10001
WORKDIR /var/lib/auraconnect
VOLUME /var/lib/auraconnect
EXPOSE 9850
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9850/-/healthy', timeout=2)"]
ENTRYPOINT ["python3", "-m", "auraconnect_exporter"]
CMD ["--web.listen-address=:9850", "--data.path=/var/lib/auraconnect"]

# What the other containers read is derived from the repository's files, as ./run does it.
FROM exporter AS tools
USER root
# What a new volume is made like.
RUN install -d -o auraconnect -g auraconnect /config
USER 10001:10001
COPY tools /opt/auraconnect/src/tools
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "tools.compose"]
CMD ["configure"]

# A small AuraConnect to watch.
FROM exporter AS demo
COPY --from=demo-packages /opt/auraconnect /opt/auraconnect
COPY demo /opt/auraconnect/src/demo
HEALTHCHECK NONE
ENTRYPOINT []
CMD ["python3", "-m", "uvicorn", "demo.api:app", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
