// Forms that trigger a DAG through Airflow's own API, as who is logged in: Airflow says whether they may, and keeps their name.
document.addEventListener("submit", async event => {
  const form = event.target.closest("form.trigger")
  if (!form) return
  event.preventDefault()
  const said = form.querySelector("output"), button = form.querySelector("button")
  const conf = { ...JSON.parse(form.dataset.conf), ...Object.fromEntries(new FormData(form)) }
  button.disabled = true
  said.textContent = "Airflow is asked …"
  try {
    const answer = await fetch(`/api/v2/dags/${form.dataset.dag}/dagRuns`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ logical_date: null, conf }),
    })
    const told = await answer.json()
    if (answer.status === 401) throw new Error("Nobody is logged in any more: log in, and try again.")
    if (answer.status === 403) throw new Error("You may not do this.")
    if (!answer.ok) throw new Error(`Airflow refuses: ${JSON.stringify(told.detail)}`)
    const link = document.createElement("a")
    link.className = "outside"
    link.href = `/dags/${form.dataset.dag}/runs/${encodeURIComponent(told.dag_run_id)}`
    link.textContent = "its run tells what comes of it"
    said.replaceChildren("Triggered: ", link)
  } catch (error) {
    said.textContent = error.message
    button.disabled = false
  }
})
