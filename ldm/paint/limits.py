"""All limits of the page's server. They bound what one visitor, or one hostile request, can use."""
from __future__ import annotations

BODY = 8 * 2 ** 20              # bytes of one upload, counted while it comes in
BODIES = 64 * 2 ** 20           # bytes of all uploads that come in at the same time
BODY_SECONDS = 30               # for one upload
HEADER_SECONDS = 20             # until a connection has sent its first or next request
JOB_BODY = 2 ** 16              # bytes of a job's JSON
PIXELS = 40_000_000             # of an uploaded picture, known from its header
STORE = 256 * 2 ** 20           # bytes of masks, references and results in memory
OPEN_REQUESTS = 64              # answered at the same time; one stream is one request
CONNECTIONS = 256               # open at the same time; an idle browser keeps up to 6
JOBS = 40                       # waiting and running
QUESTIONS = 8                   # to segmenters, asked at the same time
ENDED_JOBS = 1000               # remembered; live painting ends two a second
MEASURED = 100                  # different rounds whose seconds are remembered
ABANDONED_SECONDS = 10          # after the last stream or poll a job counts as left
RESULT_SECONDS = 3600           # that a job and its results live
VARIATIONS = 4                  # pictures of one job
ROUNDS = 3                      # that the page shows; the API takes as many as a file of rounds may have
STEPS = 1000                    # of a job, all rounds together
UNKNOWN_COLORS = 64             # listed, of a colour mask
DEATHS, DEATH_SECONDS = 3, 600  # of the model process within so many seconds: it is not started again
STREAM_COMMENT = 15             # seconds between comments in a silent stream
REPORTS = 10                    # of a job's steps, a second at most
PREVIEWS = 5                    # a second at most
