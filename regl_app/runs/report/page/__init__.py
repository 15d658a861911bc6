"""The page: template, style and script.

They are Python modules because Flower's app bundle carries no .html or .css file, and the server
app writes the report from inside its bundle.
"""
