# Code that the rules in this folder must find (ruleid) or must not find (ok). It never runs.


@router.get("/files/{name}")
def file(name: str, request):
    # ruleid: caller-names-a-file
    open(name)
    # ruleid: caller-names-a-file
    Path("/srv", request.query_params["name"])
    # ruleid: caller-names-a-file
    FOLDER / name
    # ok: caller-names-a-file
    FOLDER / safe_filename(name)
    # ok: caller-names-a-file
    open("var/here")


def led(request):
    # ruleid: caller-names-where-to-go
    RedirectResponse(request.query_params["next"])
    # ruleid: caller-names-where-to-go
    httpx.get(request.headers["x-callback"], trust_env=False)
    # ok: caller-names-where-to-go
    RedirectResponse("/console")


def headers(row):
    # ruleid: caller-writes-a-header
    one = {"Content-Disposition": f'attachment; filename="{row.filename}"'}
    # ok: caller-writes-a-header
    two = {"Content-Disposition": f'attachment; filename="{safe_filename(row.filename)}"'}
    return one, two


def page(name):
    # ruleid: page-made-of-text
    HTMLResponse(f"<p>{name}</p>")
    # ruleid: page-made-of-text
    Markup(name)
    # ok: page-made-of-text
    HTMLResponse(render("page.html", name=name))


def statement(session, name):
    # ruleid: statement-made-of-text
    session.execute(text(f"SELECT * FROM exports WHERE id = '{name}'"))
    # ruleid: statement-made-of-text
    connection.exec_driver_sql("DELETE FROM exports WHERE id = '%s'" % name)
    # ok: statement-made-of-text
    session.execute(text("SELECT 1"))
    # ok: statement-made-of-text
    session.execute(text("SELECT :name"), {"name": name})


def logged(settings, key, bearer):
    # ruleid: secret-in-the-log
    log.info("started", key=settings.secret_key.get_secret_value())
    # ruleid: secret-in-the-log
    log.warning("refused", key=bearer)
    # ok: secret-in-the-log
    log.info("refused", key_id=key.id)


def compared(given, row):
    # ruleid: secret-compared-in-the-open
    if row.secret_hash == given:
        pass
    # ruleid: secret-compared-in-the-open
    if hmac.digest(b"k", b"m", "sha256") == given:
        pass
    # ok: secret-compared-in-the-open
    if hmac.compare_digest(row.secret_hash, given):
        pass


def asked(url):
    # ruleid: client-that-asks-the-environment
    httpx.Client(timeout=3)
    # ruleid: client-that-asks-the-environment
    urllib.request.urlopen(url)
    # ruleid: client-that-asks-the-environment
    context.check_hostname = False
    # ok: client-that-asks-the-environment
    httpx.Client(timeout=3, trust_env=False)


def parsed(document):
    # ruleid: document-type-in-xml
    xml.etree.ElementTree.fromstring(document)
    # ruleid: document-type-in-xml
    lxml.etree.fromstring(document)
    # ok: document-type-in-xml
    lxml.etree.fromstring(document, STRICT)


def mailed(request, body):
    # ruleid: request-read-as-mail
    email.parser.BytesParser(policy=HTTP).parsebytes(body)
    # ruleid: request-read-as-mail
    email.message_from_bytes(body)
    # ruleid: request-read-as-mail
    request.form()
    # ok: request-read-as-mail
    UploadParser(request.headers["content-type"], "token").feed(body)


def unpacked(archive, folder):
    # ruleid: archive-that-names-its-own-place
    archive.extractall(folder)
    # ok: archive-that-names-its-own-place
    archive.read("manifest.json")
