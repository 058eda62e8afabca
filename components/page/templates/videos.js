const videos = document.querySelectorAll("video");
const button = document.getElementById("pause");
let playing = true;
function play(wanted) {
  playing = wanted;
  videos.forEach((video) => wanted ? video.play().catch(() => {}) : video.pause());
  if (button) button.textContent = wanted ? "Pause videos" : "Play videos";
}
if (button) button.addEventListener("click", () => play(!playing));
if (matchMedia("(prefers-reduced-motion: reduce)").matches) play(false);
document.querySelectorAll(".duel").forEach((duel) => {
  const [left, right] = duel.querySelectorAll("video");
  left.addEventListener("timeupdate", () => {
    const apart = Math.abs(left.currentTime - right.currentTime);
    if (apart > 0.1 && apart < left.duration - 0.1) right.currentTime = left.currentTime;
  });
});
