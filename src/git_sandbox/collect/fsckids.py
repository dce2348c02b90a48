"""What each of git's fsck messages means for a host that accepts the object (docs/adr/0014).

Harmful is what git refuses to read, or what makes a checkout write elsewhere than a reviewer sees. Ugly is what git
lives with: old histories are full of it, and a clone brings it along. An id that is not listed here is harmful.
Source: Documentation/fsck-msgids of git 2.39.5 and 2.55; those about files of refs cannot occur in a pack.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["harmful", "ugly"]


class Verdict(NamedTuple):
    """`early`: git 2.39.4, the oldest one that will do, knows the id already, so it can be told to ignore it."""

    kind: Kind
    reason: str
    early: bool = True


_PERSON = "shown as it is; git reads around it in author and committer lines"
_DATE = "shown as another date; no time stamp of a file follows from it"
_UNREADABLE = "git cannot read the object"
_CONFIG = "git submodule obeys it, or could not be kept from it"

VERDICTS: dict[str, Verdict] = {
    # people and dates
    "badDate": Verdict("ugly", _DATE),
    "badDateOverflow": Verdict("ugly", _DATE),
    "badEmail": Verdict("ugly", _PERSON),
    "badName": Verdict("ugly", _PERSON),
    "badTimezone": Verdict("ugly", _DATE),
    "missingEmail": Verdict("ugly", _PERSON),
    "missingNameBeforeEmail": Verdict("ugly", _PERSON),
    "missingSpaceBeforeDate": Verdict("ugly", _PERSON),
    "missingSpaceBeforeEmail": Verdict("ugly", _PERSON),
    "multipleAuthors": Verdict("ugly", "git shows the first"),
    "zeroPaddedDate": Verdict("ugly", _DATE),
    # headers
    "badGpgsig": Verdict("ugly", "an invalid signature does not verify", early=False),
    "badHeaderContinuation": Verdict("ugly", "an invalid signature does not verify", early=False),
    "badTagName": Verdict("ugly", "the name inside a tag object is only shown; its ref has a name of its own here"),
    "extraHeaderEntry": Verdict("ugly", "git does not read it"),
    "missingTaggerEntry": Verdict("ugly", "tags of git's first months have none"),
    "nulInCommit": Verdict("ugly", "the message is shown as far as the NUL"),
    "missingAuthor": Verdict("harmful", "no git makes it, and rebase and format-patch stop at it"),
    "missingCommitter": Verdict("harmful", "no git makes it, and rebase and format-patch stop at it"),
    "badObjectSha1": Verdict("harmful", _UNREADABLE),
    "badParentSha1": Verdict("harmful", _UNREADABLE),
    "badTreeSha1": Verdict("harmful", _UNREADABLE),
    "badType": Verdict("harmful", _UNREADABLE),
    "missingObject": Verdict("harmful", _UNREADABLE),
    "missingTag": Verdict("harmful", _UNREADABLE),
    "missingTagEntry": Verdict("harmful", _UNREADABLE),
    "missingTree": Verdict("harmful", _UNREADABLE),
    "missingType": Verdict("harmful", _UNREADABLE),
    "missingTypeEntry": Verdict("harmful", _UNREADABLE),
    "nulInHeader": Verdict("harmful", _UNREADABLE),
    "unknownType": Verdict("harmful", _UNREADABLE),
    "unterminatedHeader": Verdict("harmful", _UNREADABLE),
    # trees
    "badFilemode": Verdict("ugly", "a checkout heeds only whether a file is executable"),
    "zeroPaddedFilemode": Verdict("ugly", "the same mode, written by an old or a foreign git"),
    "badTree": Verdict("harmful", _UNREADABLE),
    "duplicateEntries": Verdict("harmful", "a checkout writes one of them, a review may show the other"),
    "emptyName": Verdict("harmful", _UNREADABLE),
    "fullPathname": Verdict("harmful", "a checkout would write into another directory"),
    "hasDot": Verdict("harmful", "a checkout would write into another directory"),
    "hasDotdot": Verdict("harmful", "a checkout would write into another directory"),
    "hasDotgit": Verdict("harmful", "a checkout would write into the repository itself"),
    "largePathname": Verdict("harmful", "no file system has such a name"),
    "nullSha1": Verdict("harmful", "git writes no index with it, so nothing can be checked out"),
    "treeNotSorted": Verdict("harmful", "git finds some of its files with one command and not with another"),
    # .gitattributes, .gitignore, .mailmap
    "gitattributesBlob": Verdict("ugly", "git reads attributes from files only"),
    "gitattributesLarge": Verdict("ugly", "git 2.39.1 and later ignores the file"),
    "gitattributesLineLength": Verdict("ugly", "git 2.39.1 and later ignores the line"),
    "gitattributesMissing": Verdict("ugly", "it is in the user's repository, or else missing is found by itself"),
    "gitattributesSymlink": Verdict("ugly", "git does not follow it"),
    "gitignoreSymlink": Verdict("ugly", "git does not follow it"),
    "mailmapSymlink": Verdict("ugly", "git does not follow it"),
    # .gitmodules
    "gitmodulesBlob": Verdict("ugly", "git warns of a directory of that name and reads no submodules from it"),
    "gitmodulesLarge": Verdict("harmful", _CONFIG),
    "gitmodulesMissing": Verdict("harmful", _CONFIG),
    "gitmodulesName": Verdict("harmful", "the name of a submodule is a path in .git"),
    "gitmodulesParse": Verdict("ugly", "git's own reader stops at the same place"),
    "gitmodulesPath": Verdict("harmful", "git submodule would take it for an option"),
    "gitmodulesSymlink": Verdict("harmful", _CONFIG),
    "gitmodulesUpdate": Verdict("harmful", "git submodule would run it"),
    "gitmodulesUrl": Verdict("harmful", "git submodule would take it for an option, or ask another host"),
}


def harmful(msg_id: str) -> bool:
    verdict = VERDICTS.get(msg_id)
    return verdict is None or verdict.kind == "harmful"


def ignored() -> list[str]:
    """Options for git, which else stops looking at an object at the first of some complaints."""
    ids = [name for name, verdict in VERDICTS.items() if verdict.kind == "ugly" and verdict.early]
    return [word for name in ids for word in ("-c", f"fsck.{name}=ignore")]
