"""What stem reads in descriptors: a line of JSON for each file, all checks of its own on.

    read_with_stem.py ADDRESS FILE...
"""

import json
import sys

from stem.descriptor.hidden_service import HiddenServiceDescriptorV3


def read(address, path):
    with open(path, encoding="ascii") as file:
        descriptor = HiddenServiceDescriptorV3.from_str(file.read(), validate=True)
    inner = descriptor.decrypt(address)
    certificates = [descriptor.signing_cert] + [
        certificate
        for point in inner.introduction_points
        for certificate in (point.auth_key_cert, point.enc_key_cert)
    ]
    return {
        "version": descriptor.version,
        "lifetime": descriptor.lifetime,
        "formats": [int(it) for it in inner.formats],
        "authentication": list(inner.intro_auth),
        "single": inner.is_single_service,
        "points": len(inner.introduction_points),
        "specifiers": sorted(
            {
                " ".join(type(it).__name__ for it in point.link_specifiers)
                for point in inner.introduction_points
            }
        ),
        "certificates": sorted({str(it.type) for it in certificates}),
        "extensions": sorted({len(it.extensions) for it in certificates}),
        "clients": len(inner.outer.clients),
    }


for path in sys.argv[2:]:
    print(json.dumps(read(sys.argv[1], path)))
