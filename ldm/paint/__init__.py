"""The page to paint on: a web process, which never imports Jittor, and a model process, which never listens.

`server` starts both, `app` answers the page, `worker` is the model process.
"""
