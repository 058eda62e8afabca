# docker buildx bake -f infra/docker/docker-bake.hcl            (all three, from the root of the repository)
# REGISTRY=111122223333.dkr.ecr.us-east-1.amazonaws.com/reelforge-prod TAG=0.1.0 docker buildx bake -f ... --push

variable "REGISTRY" {
  default = "reelforge"
}

variable "TAG" {
  default = "0.1.0"
}

group "default" {
  targets = ["cpu", "gpu", "vbench"]
}

target "common" {
  context   = "."
  platforms = ["linux/amd64"]
  attest    = ["type=provenance,mode=max", "type=sbom"]
  labels = {
    "org.opencontainers.image.version" = "${TAG}"
  }
}

target "cpu" {
  inherits   = ["common"]
  dockerfile = "infra/docker/cpu.Dockerfile"
  tags       = ["${REGISTRY}/cpu:${TAG}"]
}

target "gpu" {
  inherits   = ["common"]
  dockerfile = "infra/docker/gpu.Dockerfile"
  tags       = ["${REGISTRY}/gpu:${TAG}"]
}

target "vbench" {
  inherits   = ["common"]
  dockerfile = "infra/docker/vbench.Dockerfile"
  tags       = ["${REGISTRY}/vbench:${TAG}"]
}
