#!/usr/bin/env python3
"""Plays the kubelet: lays out the volumes of one pod as its manifests say, and prints
the arguments with which podman starts its container, each ended by a zero byte.

    pod.py MANIFESTS DIRECTORY POD
    pod.py MANIFESTS DIRECTORY POD --configmaps   lays out those anew, as after a change
    pod.py MANIFESTS DIRECTORY POD --probe        prints the readiness probe's command

MANIFESTS is what `kubectl kustomize` prints, DIRECTORY where volumes go. It knows what
`onionbraid kubernetes` writes, and fails at anything else.
"""

import base64
import os
import shutil
import sys
import time

import yaml


def objects(path):
    with open(path, encoding="utf-8") as file:
        found = [it for it in yaml.safe_load_all(file) if it]
    return {(it["kind"], it["metadata"]["name"]): it for it in found}


def lay_out(directory, files, group, mode):
    """Files of a ConfigMap or Secret: a directory of their own, to which `..data` leads."""
    os.makedirs(directory, exist_ok=True)
    os.chown(directory, 0, group)
    os.chmod(directory, 0o3777)
    own = "..%d" % time.time_ns()
    os.mkdir(os.path.join(directory, own))
    os.chmod(os.path.join(directory, own), 0o2755)
    for name, content in files.items():
        path = os.path.join(directory, own, name)
        with open(path, "wb") as file:
            file.write(content)
        os.chown(path, 0, group)
        os.chmod(path, mode)
        link = os.path.join(directory, name)
        if not os.path.islink(link):
            os.symlink(os.path.join("..data", name), link)
    new = os.path.join(directory, "..data_tmp")
    os.symlink(own, new)
    data = os.path.join(directory, "..data")
    before = os.readlink(data) if os.path.islink(data) else None
    os.rename(new, data)
    if before:
        shutil.rmtree(os.path.join(directory, before))


def main():
    manifests, directory, pod, *flags = sys.argv[1:]
    all_objects = objects(manifests)
    name, _, ordinal = pod.rpartition("-")
    spec = all_objects["StatefulSet", name]["spec"]
    most = spec.get("replicas")
    if most is None:
        most = all_objects["HorizontalPodAutoscaler", name]["spec"]["maxReplicas"]
    assert int(ordinal) < most, "no such pod"
    template = spec["template"]["spec"]
    [container] = template["containers"]
    if "--probe" in flags:
        print("\0".join(container["readinessProbe"]["exec"]["command"]), end="\0")
        return

    security = template["securityContext"]
    group = security["fsGroup"]
    volumes = {}
    below = os.path.join(directory, pod)
    os.makedirs(below, exist_ok=True)
    for volume in template["volumes"]:
        place = volumes[volume["name"]] = os.path.join(below, volume["name"])
        if "configMap" in volume:
            data = all_objects["ConfigMap", volume["configMap"]["name"]]["data"]
            lay_out(place, {key: text.encode() for key, text in data.items()}, group, 0o644)
        elif "--configmaps" not in flags:
            secret = volume["secret"]
            data = all_objects["Secret", secret["secretName"]]["data"]
            data = {key: base64.b64decode(text) for key, text in data.items()}
            lay_out(place, data, group, secret["defaultMode"])
    if "--configmaps" in flags:
        return
    for claim in spec["volumeClaimTemplates"]:
        place = volumes[claim["metadata"]["name"]] = os.path.join(below, claim["metadata"]["name"])
        if not os.path.isdir(place):
            os.mkdir(place)
            os.chown(place, 0, group)
            os.chmod(place, 0o2775)

    arguments = ["--user", "%d:%d" % (security["runAsUser"], security["runAsGroup"])]
    arguments += ["--group-add", str(group), "--hostname", pod]
    for variable in container.get("env", []):
        assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        arguments += ["--env", "%s=%s" % (variable["name"], pod)]
    own = container["securityContext"]
    assert security["runAsNonRoot"] and not own["allowPrivilegeEscalation"]
    arguments += ["--security-opt", "no-new-privileges"]
    arguments += ["--read-only"] * own["readOnlyRootFilesystem"]
    arguments += ["--read-only-tmpfs=false"] * own["readOnlyRootFilesystem"]
    arguments += ["--cap-drop=%s" % capability for capability in own["capabilities"]["drop"]]
    for mount in container["volumeMounts"]:
        source = volumes[mount["name"]]
        expression = mount.get("subPathExpr", mount.get("subPath"))
        if expression:
            source = os.path.realpath(os.path.join(source, expression.replace("$(POD_NAME)", pod)))
        arguments.append(
            "--volume=%s:%s%s" % (source, mount["mountPath"], ":ro" * mount.get("readOnly", False))
        )
    arguments += ["--stop-timeout", str(template["terminationGracePeriodSeconds"])]
    arguments += [container["image"], *container["args"]]
    print("\0".join(arguments), end="\0")


main()
