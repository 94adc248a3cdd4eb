"""Let others look: models over HTTP (`omnisky serve`), and the client that asks them as if they were here.

from omnisky import Client

found = Client("http://127.0.0.1:8000").embed("omnisky-nano", galaxies)  # as omnisky.embed(model, galaxies)

house     what is served: models, indices, heads, limits, the key
app       the routes; each calls one public function
wire      bytes and JSON ↔ Observation;  guard: how large will it be, told before anything is unpacked
batch     who waits, who is answered together
gate      who may enter, with how much, how slowly;  door: and how slowly they may ask to
"""

from omnisky.serve.client import AsyncClient as AsyncClient
from omnisky.serve.client import Client as Client
