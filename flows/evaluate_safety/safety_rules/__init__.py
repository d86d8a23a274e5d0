"""The rules that decide about an answer's safety, without promptflow."""
