"""The stored configuration as a value, whichever version stored it.

A document has every field that its version knew. A later version knows more, and must be able to go on with the last
good configuration all the same: the files may be broken just then, and a listing does not read them at all.
"""

from procclaw.model.document import Document, spec_from_document
from procclaw.model.spec import Spec


def spec_of(document: Document, content_hash: str) -> Spec:
    try:
        return spec_from_document(document, content_hash)
    except KeyError:
        # Only until the files are read again, which the next look at them does: other fields are other contents.
        from procclaw.system.specfile import brought_up_to_date

        return spec_from_document(brought_up_to_date(document), content_hash)
