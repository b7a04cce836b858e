# One image for every process; docker-compose.yml says which part a container runs.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    MTS_DATA_DIR=/data

# These folders belong to the user from the start, so volumes mounted there do too.
RUN useradd --create-home --uid 10001 mts \
    && install --directory --owner=mts --group=mts --mode=0700 /data /strategies

WORKDIR /app

COPY requirements.txt ./
RUN pip install --require-hashes -r requirements.txt

COPY manage.py ./
COPY mts_project/ mts_project/
COPY collectors/ collectors/
COPY signals/ signals/
COPY risk/ risk/
COPY trading/ trading/
COPY alerts/ alerts/
COPY realtime/ realtime/
COPY sandbox/ sandbox/
RUN python -m compileall -q .

USER mts
EXPOSE 8000 5555
CMD ["python", "manage.py", "up"]
