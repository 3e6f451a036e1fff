"""Draw all pictures."""

from scripts.pictures.album import FOLDER, PICTURES

if __name__ == "__main__":
    for name, svg in PICTURES.items():
        (FOLDER / name).write_text(svg())
