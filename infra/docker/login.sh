# KubeRay starts Ray by a login shell, and Debian's /etc/profile forgets the PATH of the image.
export PATH="/opt/venv/bin:$PATH"
