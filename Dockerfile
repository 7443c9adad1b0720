# CPU:   docker build -t annotate .
# CUDA:  docker build -t annotate --build-arg TORCH=cuda .
# Use:   docker run --rm -v "$PWD:/data" annotate run /data/videos --out /data/labels.parquet
FROM python:3.12-slim AS build
ARG TORCH=cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE THIRD_PARTY_LICENSES ./
COPY annotator annotator
COPY model model
COPY train train
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/annotate
# The CPU's build comes from PyTorch's own index; the public one's Linux wheels are those for CUDA.
RUN if [ "$TORCH" = cpu ]; then export UV_TORCH_BACKEND=cpu; fi \
    && uv pip install --no-cache --compile-bytecode --python /opt/annotate/bin/python .

FROM python:3.12-slim
COPY --from=build /opt/annotate /opt/annotate
RUN useradd --uid 1000 --create-home annotate
USER 1000
ENV PATH=/opt/annotate/bin:$PATH
WORKDIR /data
ENTRYPOINT ["annotate"]
CMD ["doctor"]
