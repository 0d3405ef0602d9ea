"""A page that finds in the browser what the network finds: files, and no server code.

`page/` is the page as it is written: HTML, CSS and modules, of which `whole_photo.js`
does what `whole_photo.py` does. `page.py` puts the network, its settings and the
runtime beside it, `runtime.py` gets that runtime, `small.py` makes the network's file
small.
"""
