"""The report of an account: its content, its charts, the page and the files. Plotly and a whole
page are heavy, so that callers import what they need where they need it."""
