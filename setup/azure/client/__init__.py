"""Azure asked: signed in, paced, its errors explained, nothing bought unasked."""
