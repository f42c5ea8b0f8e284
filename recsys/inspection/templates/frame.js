// Inside Airflow's frame: Airflow's own colours, and links to its own pages open outside of the frame.
const outside = parent === self ? null : parent.document
if (outside) {
  const follow = () => {
    document.documentElement.style.colorScheme = outside.documentElement.classList.contains("dark") ? "dark" : "light"
  }
  follow()
  new parent.MutationObserver(follow).observe(outside.documentElement, { attributes: true, attributeFilter: ["class"] })
  document.addEventListener("click", event => {
    const link = event.target.closest("a.outside")
    if (!link || event.button || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    const twin = outside.createElement("a")
    twin.href = link.href
    outside.body.append(twin)
    twin.click()
  })
}
