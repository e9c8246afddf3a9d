"""Captions of what is in a bucket: moto's server on loopback stands in for S3."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs, parquet

from harness.processes import free_port
from tests.collection.tables import start
from tests.deploy.aws_tools import FAKE, Cloud, cloud

pytestmark = pytest.mark.collections

AWS = {name: value for name, value in FAKE.items() if name.startswith("AWS_")}


@pytest.fixture(scope="module")
def s3() -> Iterator[Cloud]:
    with cloud() as moto:
        for bucket in ("pictures", "empty"):
            moto.ask("s3", "create_bucket", Bucket=bucket)
        yield moto


@pytest.fixture
def bucket(s3: Cloud) -> fs.S3FileSystem:
    return fs.S3FileSystem(endpoint_override=s3.address, region="us-east-1", access_key="x", secret_key="x")


def put(bucket: fs.S3FileSystem, key: str, content: bytes) -> None:
    with bucket.open_output_stream(f"pictures/{key}") as file:
        file.write(content)


def caption(endpoint: str, *arguments: object, **more: str) -> tuple[int, str, list[str]]:
    with start(arguments, **AWS, AWS_ENDPOINT_URL=endpoint, **more) as process:
        out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err.splitlines()


def test_a_bucket_is_captioned_into_a_bucket(
    s3: Cloud, bucket: fs.S3FileSystem, model: Path, photos: Path, tmp_path: Path
) -> None:
    names = ["a.png", "sub/b c?.png", "sub/é+%20#.png", "same.png"]
    for name, photo in zip(names, ["00.png", "01.png", "38.png", "39.png"], strict=True):
        put(bucket, f"in/{name}", (photos / photo).read_bytes())
    put(bucket, "in/.hidden.png", b"")
    put(bucket, "in/empty.jpg", b"")
    put(bucket, "in/text.jpg", b"hello\n" * 9)
    put(bucket, "elsewhere.png", (photos / "00.png").read_bytes())
    arguments = "s3://pictures/in/", "--model", model, "--out", "s3://pictures/captions.parquet"
    code, out, err = caption(s3.address, *arguments)
    assert code == 1
    assert "6 pictures, 2 of them with an error; 6 were new" in out
    assert [line.split(": ")[0] for line in err] == ["s3://pictures/in/empty.jpg", "s3://pictures/in/text.jpg"]
    table = parquet.read_table("pictures/captions.parquet", filesystem=bucket).to_pylist()
    assert {row["path"] for row in table if row["caption"]} == {f"s3://pictures/in/{name}" for name in names}
    put(bucket, "in/z.png", (photos / "07.png").read_bytes())
    code, out, _ = caption(s3.address, *arguments)
    assert (code, "7 pictures, 2 of them with an error; 1 were new" in out) == (1, True)
    left = bucket.get_file_info(fs.FileSelector("pictures/captions.parquet"))
    assert sorted(info.base_name.split("-")[0] for info in left) == ["_captionist.json", "part", "part"]
    code, out, _ = caption(s3.address, *arguments[:-1], tmp_path / "local.parquet")
    captions = {row["path"]: row["caption"] for row in parquet.read_table(tmp_path / "local.parquet").to_pylist()}
    again = parquet.read_table("pictures/captions.parquet", filesystem=bucket).to_pylist()
    assert captions == {row["path"]: row["caption"] for row in again}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://empty", "it holds no files"),
        ("s3://pictures/none/", "nothing is there"),
        ("s3://nonesuch", "cannot be listed"),
        ("s3://pictures/*.png", "nothing is there"),
    ],
)
def test_what_holds_no_pictures(s3: Cloud, url: str, says: str, model: Path, tmp_path: Path) -> None:
    code, out, (error,) = caption(s3.address, url, "--model", model, "--out", tmp_path / "t")
    assert (code, out, error.startswith(f"{url}: {says}")) == (1, "", True), error


def test_a_bucket_that_cannot_be_written_to(s3: Cloud, photos: Path, model: Path) -> None:
    out = "s3://nonesuch/captions.parquet"
    code, _, (error,) = caption(s3.address, photos, "--model", model, "--out", out)
    assert (code, error.startswith(f"captionist: {out} cannot be used (")) == (1, True), error


def test_an_endpoint_out_of_reach_is_told_at_once(model: Path, tmp_path: Path) -> None:
    url = "s3://pictures/in"
    code, _, (error,) = caption(f"http://127.0.0.1:{free_port()}", url, "--model", model, "--out", tmp_path / "t")
    assert (code, error.startswith(f"{url}: cannot be listed (")) == (1, True), error


def test_wrong_credentials(s3: Cloud, model: Path, tmp_path: Path) -> None:
    url = "s3://pictures/in"

    def check_credentials(after: bytes) -> None:
        request = urllib.request.Request(f"{s3.address}/moto-api/reset-auth", after, {"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()

    check_credentials(b"0")
    try:
        code, _, (error,) = caption(s3.address, url, "--model", model, "--out", tmp_path / "t")
    finally:
        check_credentials(b"inf")
    assert (code, error.startswith(f"{url}: cannot be listed (")) == (1, True), error
    assert "the credentials" in error
