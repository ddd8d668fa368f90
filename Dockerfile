# syntax=docker/dockerfile:1

# A release names it by digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.12-slim

# ---------------------------------------------------------------------------------------------------------------------
FROM ${BASE} AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

# Everything lands in one folder, which is all that the final stage copies.
RUN python -m venv --without-pip /opt/saga-coordinator

# Exact versions with their hashes: what is downloaded is what was tested, or the build fails.
COPY deploy/locks/ deploy/locks/
RUN python -m pip install --require-hashes --requirement deploy/locks/build.txt \
    && python -m pip --python /opt/saga-coordinator/bin/python install --no-compile \
        --require-hashes --requirement deploy/locks/server.txt

COPY pyproject.toml README.md LICENSE ./
COPY tools/wheel_examples.py tools/
COPY examples/ examples/
COPY saga_coordinator/ saga_coordinator/
COPY clients/sagactl/ clients/sagactl/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./clients/sagactl \
    && python -m pip --python /opt/saga-coordinator/bin/python install --no-compile --no-deps /wheels/*.whl \
    && python -m compileall -q /opt/saga-coordinator

# ---------------------------------------------------------------------------------------------------------------------
FROM ${BASE}

LABEL org.opencontainers.image.title="saga-coordinator" \
      org.opencontainers.image.description="Carries business transactions across services and undoes them when a step fails" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=build /opt/saga-coordinator /opt/saga-coordinator

# A number, so that Kubernetes' runAsNonRoot can see that it is not root; it needs no entry in /etc/passwd.
# Where a unix socket may be put; with a read-only root, mount a volume there.
RUN install -d -o 10001 -g 10001 -m 2775 /run/saga
USER 10001:10001
WORKDIR /tmp

# Nothing is ever written outside the database: `docker run --read-only` works. The container's own network
# decides who reaches the port; elsewhere the program listens on loopback unless told otherwise.
ENV PATH=/opt/saga-coordinator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SAGA_ADDRESSES=0.0.0.0:7242

EXPOSE 7242
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["saga-coordinator", "health"]

ENTRYPOINT ["saga-coordinator"]
CMD ["serve"]
